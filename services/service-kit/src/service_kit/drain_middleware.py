"""Requests at a process that is about to end."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.drain import Drain, ShuttingDownError
from service_kit.errors import ErrorForm, error_response

# Whoever balances the load asks here where to send requests.
_READY = frozenset({"/ready", "/api/v1/ready"})


def drain_of(scope: Scope) -> Drain:
    """Return the process's drain, for answers that have begun: they end themselves."""
    drain: Drain = scope["state"]["drain"]
    return drain


class DrainMiddleware:
    """Says that the process is not ready, and ends requests that it can't wait for.

    An answer that has begun is not cut off here: it registers with `drain_of`, and tells its
    client in its own way.

    Args:
        app: the app inside.
        drain: how far the end has come.
        form: how a refusal is written.
    """

    def __init__(self, app: ASGIApp, *, drain: Drain, form: ErrorForm) -> None:
        self.app = app
        self.drain = drain
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.drain.begun and scope["path"] in _READY:
            await error_response(ShuttingDownError(), self.form)(scope, receive, send)
            return
        scope.setdefault("state", {})["drain"] = self.drain
        exchange = _Exchange(self.drain, send)
        with self.drain.stopping(exchange.stop):
            try:
                await self.app(scope, receive, exchange.send)
            except asyncio.CancelledError:
                if not exchange.stopped:
                    raise
                exchange.task.uncancel()
                await error_response(ShuttingDownError(), self.form)(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_drain", "_send", "_started", "stopped", "task")

    def __init__(self, drain: Drain, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.stopped = False
        self._drain = drain
        self._send = send
        self._started = False

    def stop(self) -> None:
        """End the request, if its answer has not begun."""
        if not self._started:
            self.stopped = True
            self.task.cancel()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            if self._drain.begun:
                # A balancer that keeps its connections opens the next one somewhere else.
                MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)
