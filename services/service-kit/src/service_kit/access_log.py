"""What is told of each request in one line: by the middleware, and by whoever knows more of it."""

import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from service_kit.logging import get_logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

_log = get_logger("access")
_MILLISECONDS = 1000
_current: "ContextVar[AccessLine | None]" = ContextVar("access_line", default=None)


class AccessLine:
    """The line of the request that begins here.

    It is written when the request has ended, and what goes on without its client has, too.

    Attributes:
        facts: what is known besides what every request has; names with their units.
    """

    __slots__ = ("_ending", "_start", "_token", "_waits_for", "facts")

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._token: Token[AccessLine | None] = _current.set(self)
        self._start = time.perf_counter()
        self._waits_for = 0
        self._ending: Mapping[str, Any] | None = None

    @property
    def elapsed_seconds(self) -> float:
        """Time since the request came."""
        return time.perf_counter() - self._start

    def wait_for(self, task: "asyncio.Task[Any]") -> None:
        """Be written only after a task: it will know what the request has cost."""
        self._waits_for += 1
        task.add_done_callback(self._done)

    def _done(self, _task: "asyncio.Task[Any]") -> None:
        self._waits_for -= 1
        self._write_if_complete()

    def end(self, **ending: Any) -> None:
        """Say how the request ended; called once, where the line was begun."""
        _current.reset(self._token)
        self._ending = ending
        self._write_if_complete()

    def _write_if_complete(self) -> None:
        if self._ending is not None and not self._waits_for:
            ending, self._ending = self._ending, None
            _log.info("request", **{**self.facts, **ending})


def note(**facts: Any) -> None:
    """Add facts to the line of the request for which this runs; later ones replace earlier ones.

    Never a prompt, an answer or a key: log lines, and spans with the same facts, leave the machine.
    """
    line = _current.get()
    if line is not None:
        line.facts.update(facts)


def note_elapsed(name: str) -> None:
    """Note, in milliseconds, how long after the request's start something happened first."""
    line = _current.get()
    if line is not None:
        line.facts.setdefault(name, round(line.elapsed_seconds * _MILLISECONDS, 3))


def noted(name: str, default: Any) -> Any:
    """Return a fact of this request that was noted before."""
    line = _current.get()
    return default if line is None else line.facts.get(name, default)


def wait_for(task: "asyncio.Task[Any]") -> None:
    """Let the line of the request for which this runs wait for a task that outlives it."""
    line = _current.get()
    if line is not None:
        line.wait_for(task)
