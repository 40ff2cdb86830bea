"""Moments: integer microseconds since 1970 inside, RFC 3339 in UTC outside."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

MICROS_PER_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MAX_MICROS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
MIN_MICROS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def micros_from_datetime(moment: datetime) -> int:
    """Convert a moment that carries its time zone."""
    return (moment - _EPOCH) // _MICROSECOND


# A batch is of one moment.
@lru_cache(maxsize=512)
def rfc3339(micros: int) -> str:
    """Write a moment as ``2026-01-31T12:00:00.000000Z``."""
    moment = _EPOCH + timedelta(microseconds=micros)
    # `strftime` writes the year 1 with one digit.
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def moment_or_none(micros: int | None) -> str | None:
    """Write a moment that may be missing."""
    return None if micros is None else rfc3339(micros)
