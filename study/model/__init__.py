"""The encoder, its heads, and the exchange of weights with `transformers`."""
