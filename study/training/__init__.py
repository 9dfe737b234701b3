"""Training: schedule, checkpoints, the training loop, and hyperparameter search."""
