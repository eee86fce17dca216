"""How a bundled base is made: a tokenizer and a small network from public-domain books and from records made of them."""
