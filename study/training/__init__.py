"""Schedule, checkpoints, the training loop, the search."""
