"""Adapters in the layout of Hugging Face's peft, written and read without it."""
