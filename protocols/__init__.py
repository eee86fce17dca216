"""What the parties agree on, and every rule that more than one of them computes."""
