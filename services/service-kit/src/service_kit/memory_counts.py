"""`limits`' counts in memory, for an event loop.

Its own storage starts a thread for nearly every request, to forget what has expired, and waits
until that runs: on a busy machine the loop stalls for tens of milliseconds. The thread then looks
at every key that there is, and keeps their names for ever. Here what has expired is forgotten on
the way.
"""

import threading
import time
from typing import Any

from limits.storage import MemoryStorage


class _NoTimer(threading.Timer):
    """What the storage takes for a timer that runs already, so that it never starts one."""

    def __init__(self) -> None:
        super().__init__(0, lambda: None)

    def is_alive(self) -> bool:
        return True


class LoopMemoryStorage(MemoryStorage):
    """Counts for moving windows, all of one length; used by one thread only.

    `storage_from_string` knows it as ``loop-memory://``.
    """

    STORAGE_SCHEME = ["loop-memory"]  # noqa: RUF012 - declared so by the base class

    def __init__(self, uri: str | None = None, **options: Any) -> None:
        super().__init__(uri, **options)
        self.timer.cancel()
        self.timer = _NoTimer()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a request, if there is room for it in the window."""
        acquired: bool = super().acquire_entry(key, limit, expiry, amount)
        now_seconds = time.time()
        # Put last, so that those not used for longest come first.
        if events := self.events.pop(key, None):
            self.events[key] = events
            while events[-1].expiry <= now_seconds and len(events) > 1:
                events.pop()
        self._forget(now_seconds)
        return acquired

    def _forget(self, now_seconds: float) -> None:
        """Forget keys that have not been used for a window; each is looked at once."""
        while (key := next(iter(self.events), None)) is not None:
            if self.events[key][0].expiry > now_seconds:
                return
            self.clear(key)
