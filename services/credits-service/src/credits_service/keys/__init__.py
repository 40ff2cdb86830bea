"""The rules of issued API keys, pure: what a key is, what it may do, how it changes."""
