"""One round of a plan on an institution's own records, without any connection and without a trace in its ledger."""
