"""The ledger's rules as pure functions, and the writer that runs them in batches."""
