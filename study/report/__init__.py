"""The report of a study: figures, README.md and index.html, made from tables and result files."""
