"""Whether a store of rate limits is worth asking."""

import time
from collections.abc import Callable

from service_kit.logging import get_logger

_log = get_logger(__name__)

RETRY_SECONDS = 5.0


class StoreHealth:
    """Remembers that a store failed, so that not every request waits for its silence.

    Args:
        on_error: called each time that the store did not answer.
    """

    def __init__(self, on_error: Callable[[], object] = lambda: None) -> None:
        self._on_error = on_error
        self._failed = False
        self._retry_at_seconds = 0.0

    def may_ask(self) -> bool:
        """Tell whether to ask; after a failure only one request in a while tries it."""
        if not self._failed:
            return True
        now_seconds = time.monotonic()
        if now_seconds < self._retry_at_seconds:
            return False
        # The others don't wait for the outcome.
        self._retry_at_seconds = now_seconds + RETRY_SECONDS
        return True

    def note_error(self, error: Exception) -> None:
        """Note that the store did not answer."""
        self._failed = True
        self._retry_at_seconds = time.monotonic() + RETRY_SECONDS
        self._on_error()
        _log.warning(
            "rate_limit_store_unavailable",
            error=type(error).__name__,
            consequence="limits are kept per process",
        )

    def note_answer(self) -> None:
        """Note that the store answered."""
        if self._failed:
            self._failed = False
            _log.info("rate_limit_store_available")
