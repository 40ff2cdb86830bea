"""How late the event loop does what is due: while something blocks it, nobody is answered.

The loop is asked to wake a task every 50 ms; what it is late by is the lag. A stall is seen by as
much of it as comes after the task was due, so that a single short one may be missed, and none is
taken for longer than it was. Waking costs some 10 µs, 20 times a second.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Gauge, Histogram

from service_kit.metrics import Readings

EVERY_SECONDS = 0.05
WINDOW_SECONDS = 60.0
_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)


class RecentMax:
    """The largest value of the last minute: of this half of it, and of the one before.

    Args:
        window_seconds: how long a value counts at most; half as long at least.
    """

    def __init__(self, window_seconds: float) -> None:
        self._half_seconds = window_seconds / 2
        self._half = 0
        self._largest = self._largest_before = 0.0

    def add(self, value: float, now_seconds: float) -> float:
        """Take a value, and return the largest one now."""
        half = int(now_seconds / self._half_seconds)
        if half != self._half:
            self._largest_before = self._largest if half == self._half + 1 else 0.0
            self._half, self._largest = half, 0.0
        self._largest = max(self._largest, value)
        return max(self._largest, self._largest_before)


class LoopLag:
    """Measures the lag of the loop that it runs in.

    Args:
        registry: where the figures are shown.
        every_seconds: how often it looks.
        monotonic: the clock, in seconds. Not the loop's: that one stands still while it is late.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        every_seconds: float = EVERY_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lag = Histogram(
            "event_loop_lag_seconds",
            "How late the event loop did what was due, looked at every 50 ms.",
            buckets=_BUCKETS_SECONDS,
            registry=registry,
        )
        self._longest = Gauge(
            "event_loop_lag_max_seconds",
            "The longest lag of the event loop in the last minute.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._every_seconds = every_seconds
        self._monotonic = monotonic
        self._recent = RecentMax(WINDOW_SECONDS)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Measure until the end of the block."""
        watching = asyncio.create_task(self._watch(), name="loop-lag")
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        while True:
            due_seconds = self._monotonic() + self._every_seconds
            await asyncio.sleep(self._every_seconds)
            now_seconds = self._monotonic()
            # The loop's own clock is a little coarser, so that it may also be early.
            self.note(max(0.0, now_seconds - due_seconds), now_seconds)

    def note(self, lag_seconds: float, now_seconds: float) -> None:
        """Count one look at the loop."""
        self._lag.observe(lag_seconds)
        self._longest.set(self._recent.add(lag_seconds, now_seconds))


def loop_view(readings: Readings) -> Mapping[str, float]:
    """Return what `/metrics` says in JSON of the event loop, of all workers together."""
    count = readings.total("event_loop_lag_seconds_count")
    seconds = readings.total("event_loop_lag_seconds_sum")
    return {
        "avg_lag_seconds": round(seconds / count, 6) if count else 0.0,
        "max_lag_last_minute_seconds": round(readings.total("event_loop_lag_max_seconds"), 6),
    }
