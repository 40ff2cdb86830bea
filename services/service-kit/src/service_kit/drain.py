"""The end of a process that others rely on: first it says so, then it finishes, then it ends.

    SIGTERM ── not ready, still serves ──▶ no new connections ──▶ what still runs is told to end
               for `delay_seconds`         for `drain_seconds`    the lifespan closes

uvicorn knows the middle part only: it closes its sockets at once, and cancels what runs too long.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from types import FrameType

from service_kit.errors import ServiceError
from service_kit.logging import get_logger

_log = get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShuttingDownError(ServiceError):
    """The process ends and did not wait for this request; another one will serve it."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "server_is_overloaded"

    def __init__(self) -> None:
        super().__init__(
            "The server is shutting down. Please try again.", headers={"retry-after": "1"}
        )


class Drain:
    """How far the end of this process has come.

    Args:
        delay_seconds: how long it still takes requests, so that whoever balances the load can
            notice that it is not ready.
        drain_seconds: from there, how long running answers may take.
    """

    def __init__(self, *, delay_seconds: float = 0, drain_seconds: float = 0) -> None:
        self._delay_seconds = delay_seconds
        self._drain_seconds = drain_seconds
        self._begun = False
        self._over = False
        self._stops: set[Callable[[], object]] = set()

    @property
    def begun(self) -> bool:
        """Whether the process is about to end: nobody is to be sent here any more."""
        return self._begun

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Begin at the signals that end the server, which hears of them after the delay.

        Outside the main thread, where no signal can be caught, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        servers = {number: signal.getsignal(number) for number in _SIGNALS}

        def caught(number: int, _frame: FrameType | None) -> None:
            server = servers[signal.Signals(number)]
            end = (lambda: server(number, None)) if callable(server) else (lambda: None)
            # A second signal is from somebody who won't wait.
            if self._begun or not self._delay_seconds:
                end()
            loop.call_soon_threadsafe(self.begin, end)

        for number in servers:
            signal.signal(number, caught)
        try:
            yield
        finally:
            for number, server in servers.items():
                signal.signal(number, server)

    def begin(self, end: Callable[[], object] = lambda: None) -> None:
        """Note that the end has begun.

        Args:
            end: called after the delay; closes the server's sockets.
        """
        if self._begun:
            return
        self._begun = True
        _log.info("draining", delay_seconds=self._delay_seconds, drain_seconds=self._drain_seconds)
        loop = asyncio.get_running_loop()
        if self._delay_seconds:
            loop.call_later(self._delay_seconds, end)
        loop.call_later(self._delay_seconds + self._drain_seconds, self.finish)

    def finish(self) -> None:
        """End what still runs."""
        if self._over:
            return
        self._over = True
        if self._stops:
            _log.warning("drain_time_is_over", answers_ended=len(self._stops))
        for stop in tuple(self._stops):
            stop()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Let a running answer be told when its time is over.

        Args:
            stop: called once, if the answer still runs then; at once if it already is.
        """
        if self._over:
            stop()
            yield
            return
        self._stops.add(stop)
        try:
            yield
        finally:
            self._stops.discard(stop)
