"""The learning benchmark: every rule on public data sets, beside institutions alone and pooled records."""
