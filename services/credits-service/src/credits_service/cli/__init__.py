"""The `credits` command: the ledger from a terminal or a script."""
