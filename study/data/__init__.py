"""Text to batches: corpus -> tokenizer -> token ids -> examples -> masked batches."""
