"""Identifiers that grow with time, so that indexes grow at one end (UUID version 7)."""

from uuid_utils import uuid7


def new_id() -> str:
    """Make an identifier."""
    return str(uuid7())
