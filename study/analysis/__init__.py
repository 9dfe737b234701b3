"""From result files to comparisons and verdicts. Reads files only."""
