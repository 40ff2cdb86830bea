"""The ledger's storage: loads and locks what a batch touches, writes back what it changed."""
