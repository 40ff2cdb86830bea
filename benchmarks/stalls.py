"""How long an event loop stalls, looked at each millisecond: the proxy's, or one with no work.

Started as a process of its own: `python -m benchmarks.stalls proxy` is the proxy as its command
starts it, `python -m benchmarks.stalls idle` a loop on which nothing happens: what stalls that one
is the machine. Both tell at `/stalls` what came since they were last asked.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

import msgspec
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from ai_proxy_service import main as proxy

PATH = "/stalls"
_EVERY_SECONDS = 0.001


class Stalls(msgspec.Struct):
    """What was seen: how late the loop was, in milliseconds, and how often it was looked at.

    Attributes:
        longest_ms: the longest.
        own_longest_ms: the longest without the time in which the loop's thread could have gone on,
            but others had the machine's cores.
        own_p999_ms: within that stayed 99.9 % of the looks.
        looks: how many.
    """

    longest_ms: float
    own_longest_ms: float
    own_p999_ms: float
    looks: int


class Watch:
    """Looks at the loop that it runs in."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._own_late: list[float] = []
        # Of the thread that opens it: time on a core, time waiting for one, both in nanoseconds.
        self._schedule = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", 0)

    def _waited_seconds(self) -> float:
        return int(os.pread(self._schedule, 100, 0).split()[1]) / 1e9

    async def look(self) -> None:
        """Look, again and again."""
        while True:
            # Since before the sleep, so that nothing which stalls the loop goes unseen.
            began, waited_before = time.perf_counter(), self._waited_seconds()
            await asyncio.sleep(_EVERY_SECONDS)
            late = time.perf_counter() - began - _EVERY_SECONDS
            self._late.append(late)
            self._own_late.append(late - (self._waited_seconds() - waited_before))

    def taken(self) -> bytes:
        """Return what was seen, as JSON, and forget it."""
        late, own = [0.0, *self._late], sorted([0.0, *self._own_late])
        self._late, self._own_late = [], []
        p999 = own[int(len(own) * 0.999)]
        found = Stalls(max(late) * 1000, own[-1] * 1000, p999 * 1000, len(late))
        return msgspec.json.encode(found)


class WatchedApp:
    """An app, and beside it what its loop was like."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._watch = Watch()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            looking = asyncio.create_task(self._watch.look())
            try:
                await self._app(scope, receive, send)
            finally:
                looking.cancel()
        elif scope.get("path") == PATH:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self._watch.taken()})
        else:
            await self._app(scope, receive, send)


def _proxy() -> None:
    build = proxy.build_app

    def build_watched() -> Any:
        return WatchedApp(build())

    # uvicorn finds the app by this name.
    proxy.build_app = build_watched
    sys.argv[1:] = []
    proxy.main()


async def _idle() -> None:
    watch = Watch()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = watch.taken()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"event": "listening", "url": f"http://127.0.0.1:{port}"}), flush=True)
    await watch.look()


if __name__ == "__main__":
    if sys.argv[1:] == ["proxy"]:
        _proxy()
    else:
        uvloop.run(_idle())
