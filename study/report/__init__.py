"""From tables to figures and pages. Reads files only."""
