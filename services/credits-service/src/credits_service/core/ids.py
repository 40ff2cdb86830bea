"""Identifiers that grow with time, so that indexes grow at one end (UUID version 7)."""

from uuid import UUID

from uuid_utils import uuid7

_MICROS_PER_MILLI = 1_000
_RANDOM_BITS = 80
_VERSION = 7


def new_id() -> str:
    """Make an identifier."""
    return str(uuid7())


def lowest_id(at_micros: int) -> str:
    """Return what no identifier made from a moment on is smaller than."""
    millis = max(0, at_micros // _MICROS_PER_MILLI)
    return str(UUID(int=millis << _RANDOM_BITS))


def made_at_micros(identifier: str) -> int | None:
    """Return when an identifier was made, to the millisecond; None if it is none of ours."""
    try:
        uuid = UUID(identifier)
    except ValueError:
        return None
    return (uuid.int >> _RANDOM_BITS) * _MICROS_PER_MILLI if uuid.version == _VERSION else None
