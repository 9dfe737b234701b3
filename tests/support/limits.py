"""How large a report may be."""
README_BYTES, PAGE_BYTES, PRINTED_PAGES = 60_000, 600_000, 15
