"""Several Gemini API keys used in turn; one that fails is set aside for a while."""

import time
from collections.abc import Callable, Sequence

from service_kit.logging import get_logger

_log = get_logger(__name__)


class KeyPool:
    """Hands out keys in turn.

    Args:
        keys: at least one.
        clock: seconds that only go forward.
    """

    def __init__(self, keys: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = tuple(keys)
        self._clock = clock
        self._usable_at = dict.fromkeys(self._keys, float("-inf"))
        self._next = 0

    def take(self) -> str:
        """Return the next key; if all are set aside, the one that comes back first."""
        now = self._clock()
        for step in range(len(self._keys)):
            place = (self._next + step) % len(self._keys)
            key = self._keys[place]
            if self._usable_at[key] <= now:
                self._next = place + 1
                return key
        return min(self._keys, key=lambda key: self._usable_at[key])

    def set_aside(self, key: str, seconds: float) -> bool:
        """Don't use a key for a while; tell whether another one is usable now.

        The only key is never set aside: with it there is at least an answer.
        """
        now = self._clock()
        others = [other for other in self._keys if other != key]
        if not others:
            return False
        if self._usable_at[key] <= now:
            _log.warning(
                "gemini_key_set_aside",
                key_number=self._keys.index(key) + 1,
                keys=len(self._keys),
                seconds=round(seconds),
            )
        self._usable_at[key] = now + seconds
        return any(self._usable_at[other] <= now for other in others)

    def count_set_aside(self) -> int:
        """Return how many keys are not used at the moment."""
        now = self._clock()
        return sum(usable_at > now for usable_at in self._usable_at.values())
