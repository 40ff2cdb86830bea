"""Moments: integer microseconds since 1970 inside, RFC 3339 in UTC outside."""

import time
from datetime import UTC, datetime, timedelta

MICROS_PER_SECOND = 1_000_000
_NANOS_PER_MICRO = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now_micros() -> int:
    """Return the time of day."""
    return time.time_ns() // _NANOS_PER_MICRO


def micros_of(moment: datetime) -> int:
    """Convert a moment that carries its time zone."""
    return (moment - _EPOCH) // _MICROSECOND


def rfc3339(micros: int) -> str:
    """Write a moment as ``2026-01-31T12:00:00.000000Z``."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
