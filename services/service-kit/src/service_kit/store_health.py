"""Whether the store of rate limits is worth asking, and what operators are told of it.

What it is like is known once in each process, by all who ask the store: one of them finds out that
it is gone, or back, and one line says so.
"""

import time
from collections.abc import Mapping
from typing import Any

from service_kit.logging import get_logger
from service_kit.metrics import LimitStoreMetrics, Readings

_log = get_logger(__name__)

RETRY_SECONDS = 5.0
_MEMORY = "memory"


class StoreHealth:
    """Remembers that a store failed, so that not every request waits for its silence.

    Args:
        metrics: where its failures are counted, and its state is told.
        storage_uri: names it. ``memory://`` is this process, and can't fail.
    """

    def __init__(self, metrics: LimitStoreMetrics, storage_uri: str) -> None:
        self._errors = metrics.errors
        self._failed = False
        self._failed_at_seconds = 0.0
        self._retry_at_seconds = 0.0
        self._trying = False
        store = storage_uri.partition(":")[0]
        self._up = None if store == _MEMORY else metrics.up.labels(store)
        self._tell()

    def may_ask(self) -> bool:
        """Tell whether to ask; after a failure only one request in a while tries it."""
        if not self._failed:
            return True
        now_seconds = time.monotonic()
        if now_seconds < self._retry_at_seconds:
            return False
        # The others don't wait for the outcome.
        self._retry_at_seconds = now_seconds + RETRY_SECONDS
        self._trying = True
        return True

    def note_error(self, error: Exception) -> None:
        """Note that the store did not answer."""
        self._errors.inc()
        now_seconds = time.monotonic()
        self._retry_at_seconds = now_seconds + RETRY_SECONDS
        self._trying = False
        if self._failed:
            # One of those that had asked before it was known, or that tried it again.
            return
        self._failed, self._failed_at_seconds = True, now_seconds
        self._tell()
        _log.warning(
            "rate_limit_store_unavailable",
            error=type(error).__name__,
            consequence="limits are kept per process",
        )

    def note_answer(self) -> None:
        """Note that the store answered."""
        # A late answer to what was asked before the failure does not say that it is back.
        if not self._trying:
            return
        self._failed = self._trying = False
        self._tell()
        away_seconds = round(time.monotonic() - self._failed_at_seconds, 3)
        _log.info("rate_limit_store_available", away_seconds=away_seconds)

    def _tell(self) -> None:
        if self._up is not None:
            self._up.set(not self._failed)


def limits_view(readings: Readings) -> Mapping[str, Any]:
    """Return what `/metrics` says in JSON of where limits are counted."""
    stores = readings.by_label("rate_limit_store_up", "store")
    store, up = next(iter(stores.items()), (_MEMORY, 1.0))
    return {
        "store": store,
        "store_up": bool(up),
        "store_errors": int(readings.total("rate_limit_store_errors_total")),
    }
