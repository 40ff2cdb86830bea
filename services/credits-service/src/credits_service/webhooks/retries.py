"""When a delivery is tried again, and for how long: pure functions."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

# The pauses after the first eleven attempts add up to three days.
ATTEMPTS_MAX = 12
FIRST_PAUSE_SECONDS = 10.0
PAUSE_GROWTH = 4.0
PAUSE_SECONDS_MAX = 14 * 3600.0
_JITTER = 0.25
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


def pause_seconds(attempts: int, jitter: float, retry_after_seconds: float | None = None) -> float:
    """Return how long to wait after an attempt that failed.

    Args:
        attempts: how many there were, this one included.
        jitter: from 0 to 1; spreads what failed together.
        retry_after_seconds: what the receiver asked for; it can lengthen the pause up to the
            longest, and never shortens it.
    """
    growing = FIRST_PAUSE_SECONDS * PAUSE_GROWTH ** (attempts - 1)
    pause = min(growing, PAUSE_SECONDS_MAX) * (1 + _JITTER * (2 * jitter - 1))
    return max(pause, min(retry_after_seconds or 0.0, PAUSE_SECONDS_MAX))


def read_retry_after(header: str | None, now_seconds: float) -> float | None:
    """Read a `Retry-After` (RFC 9110): seconds or a date; None if it is neither."""
    if header is None:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now_seconds)
    except (ValueError, OverflowError):
        return None
