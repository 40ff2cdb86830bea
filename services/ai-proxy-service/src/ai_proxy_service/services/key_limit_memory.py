"""What issued keys use, counted in this process."""

import time
from collections.abc import Callable, Collection, Mapping

from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import (
    TOKENS_COUNT_SECONDS,
    LimitName,
    Standing,
    Window,
    token_window,
)
from service_kit.memory_counts import LoopMemoryStorage

# With so many keys those that have not been used lately are forgotten.
KEYS_MAX = 10_000


class MemoryKeyLimits:
    """The counts of one process.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._requests = MovingWindowRateLimiter(LoopMemoryStorage())
        self._spent: dict[str, dict[int, int]] = {}
        self._slots: dict[str, set[str]] = {}

    async def enter(self, key: IssuedKey, slot: str) -> Standing:
        """See `KeyLimitStore`."""
        tokens = self._tokens(key)
        refused_by: LimitName | None = None
        running = self._slots.get(key.name, set())
        if tokens is not None and tokens.remaining == 0:
            refused_by = "tokens"
        elif key.max_concurrent is not None and len(running) >= key.max_concurrent:
            refused_by = "concurrent"
        requests = None
        if key.rpm is not None:
            item = RateLimitItemPerMinute(key.rpm)
            if refused_by is None and not self._requests.hit(item, key.name):
                refused_by = "requests"
            state = self._requests.get_window_stats(item, key.name)
            requests = Window(
                key.rpm, max(0, state.remaining), max(0.0, state.reset_time - time.time())
            )
        if key.max_concurrent is not None and refused_by is None:
            self._slots.setdefault(key.name, set()).add(slot)
        return Standing(requests, tokens, refused_by)

    def _tokens(self, key: IssuedKey) -> Window | None:
        if key.tpm is None:
            return None
        return token_window(self._spent.get(key.name, {}), key.tpm, self._clock())

    async def spend(self, key_id: str, tokens: int) -> None:
        """See `KeyLimitStore`."""
        now_seconds = self._clock()
        oldest = now_seconds - TOKENS_COUNT_SECONDS
        if len(self._spent) >= KEYS_MAX:
            self._spent = {
                name: spent for name, spent in self._spent.items() if max(spent) > oldest
            }
        known = self._spent.get(key_id, {})
        spent = {second: counted for second, counted in known.items() if second > oldest}
        spent[int(now_seconds)] = spent.get(int(now_seconds), 0) + tokens
        self._spent[key_id] = spent

    async def leave(self, key_id: str, slot: str) -> None:
        """See `KeyLimitStore`."""
        running = self._slots.get(key_id, set())
        running.discard(slot)
        if not running:
            self._slots.pop(key_id, None)

    async def keep(self, slots: Mapping[str, Collection[str]]) -> None:
        """See `KeyLimitStore`: here they are used until they are left."""
