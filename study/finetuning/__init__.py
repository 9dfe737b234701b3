"""Fine-tuning: training a pre-trained encoder further, with a linear classifier on top, on labelled texts."""
