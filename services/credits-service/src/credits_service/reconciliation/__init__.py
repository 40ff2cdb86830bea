"""Comparing what the proxy wrote down, what the ledger charged, and what Google bills."""
