"""Timers that are begun and ended many times."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class Deadline:
    """A moment by which something must have happened, if it is waited for."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether something is waited for."""
        return self._handle is not None

    def begin(self, seconds: float, action: Callable[..., None], *args: object) -> None:
        """Wait for so long; then act."""
        self._handle = self._loop.call_later(seconds, self._pass, action, args)

    def end(self) -> None:
        """Wait no longer: it has happened, or does not matter any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _pass(self, action: Callable[..., None], args: tuple[object, ...]) -> None:
        self._handle = None
        action(*args)
