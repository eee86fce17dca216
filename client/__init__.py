"""One institution: its records, its part in every round, and its own ledger of both."""
