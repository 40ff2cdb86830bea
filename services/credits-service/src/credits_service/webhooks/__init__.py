"""Events of the ledger, delivered to the operator's own endpoint."""
