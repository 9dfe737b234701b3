"""What a trained encoder knows: perplexity on fixed masks, embeddings, linear probes, predictions."""
