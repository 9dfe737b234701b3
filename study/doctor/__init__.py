"""`study doctor`: why a masked language model's loss stops where it does, for any text, tokenizer, log and collator."""
