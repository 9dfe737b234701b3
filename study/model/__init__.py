"""The encoder, its heads, and its exchange with `transformers`."""
