"""Blocks of pages that `study readme` writes, each between two comment lines. The rest of a page is left alone."""
from __future__ import annotations


def markers(name: str) -> tuple[str, str]:
    """The comment lines around the block of a study or document."""
    return f"<!-- {name}:begin (written by `study readme`) -->\n", f"<!-- {name}:end -->"


def has_block(text: str, name: str) -> bool:
    """Whether a page has this block."""
    return all(line in text for line in markers(name))


def with_block(text: str, name: str, block: str) -> str:
    """The text of a page with another content of a block that it has."""
    begin, end = markers(name)
    head, _, rest = text.partition(begin)
    return head + begin + block + end + rest.partition(end)[2]
