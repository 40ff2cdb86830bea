"""`limits`' moving windows in memory, for an event loop.

Its own storage starts a thread for nearly every request, to forget what has expired, and waits
until that runs: on a busy machine the loop stalls for tens of milliseconds. The thread then looks
at every key that there is, and keeps their names for ever; and each request moves all that a
window holds. Here a window is a queue, and what has expired is forgotten on the way.
"""

import threading
import time
from collections import deque
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
        # When each request of a key came, oldest first; the key used last is the last one.
        self.windows: dict[str, deque[float]] = {}

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a request, if there is room for it in the window."""
        now_seconds = time.time()
        self._forget(now_seconds - expiry)
        window = self.windows.pop(key, None) or deque()
        _expire(window, now_seconds - expiry)
        if acquired := len(window) + amount <= limit:
            window.extend([now_seconds] * amount)
        if window:
            self.windows[key] = window
        return acquired

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when a key's window began, and how many requests it holds."""
        now_seconds = time.time()
        window = self.windows.get(key)
        if window:
            _expire(window, now_seconds - expiry)
        return (window[0], len(window)) if window else (now_seconds, 0)

    def clear(self, key: str) -> None:
        """Forget a key."""
        self.windows.pop(key, None)

    def reset(self) -> int | None:
        """Forget all of them, and tell how many there were."""
        count = len(self.windows)
        self.windows.clear()
        return count

    def _forget(self, begin_seconds: float) -> None:
        """Forget keys that have not been used for a window; each is looked at once."""
        while (key := next(iter(self.windows), None)) is not None:
            window = self.windows[key]
            if window and window[-1] >= begin_seconds:
                return
            del self.windows[key]


def _expire(window: deque[float], begin_seconds: float) -> None:
    while window and window[0] < begin_seconds:
        window.popleft()
