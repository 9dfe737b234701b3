"""What a trained encoder has learned: scores on fixed masks, predictions, and linear probes of its vectors."""
