"""Text and tokens: tokenizers, chat templates, and the conversion of tokenizers that come in another form."""
