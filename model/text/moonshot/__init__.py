"""Moonshot's tokenizer (Moonlight, Kimi), published as `tiktoken.model` and code: made a `tokenizer.json` without running the code."""
