"""One request and its response on the socket: read, write, cut, and notice who goes away."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from gemini_simulator.errors import ApiError
from gemini_simulator.state import RecordedRequest, Recorder, State
from gemini_simulator.wire import JSON_HEADERS, Headers

_KEY_HEADERS = frozenset({"x-goog-api-key", "authorization"})
_KEY_PARAMETER = re.compile(r"(^|&)key=[^&]*")
_MASK = "…"


class Exchange:
    """What the endpoints need of a connection.

    Attributes:
        entry: the record of this request.
        headers: request headers, names in lower case.
        query: parameters, the last one of each name.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, recorder: Recorder) -> None:
        self._receive = receive
        self._send = send
        self._recorder = recorder
        self._ended = False
        self.headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.key = self.headers.get("x-goog-api-key") or self.query.get("key")
        self.entry: RecordedRequest = recorder.open(
            method=scope["method"],
            path=scope["path"],
            query=_KEY_PARAMETER.sub(rf"\1key={_MASK}", query),
            headers={
                name: _MASK if name in _KEY_HEADERS else value
                for name, value in self.headers.items()
            },
            key_sha256=hashlib.sha256(self.key.encode()).hexdigest()[:16] if self.key else None,
        )

    async def read_body(self, limit_bytes: int) -> bytes:
        """Return the request's body.

        Raises:
            ApiError: 400 when it is longer than the limit.
        """
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._end("disconnected")
                raise asyncio.CancelledError
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit_bytes:
                raise ApiError(400, f"Request payload size exceeds the limit: {limit_bytes} bytes.")
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def run(self, work: Awaitable[None]) -> None:
        """Do the work, but stop it when the client goes away."""
        task = asyncio.ensure_future(work)
        watcher = asyncio.create_task(self._wait_for_disconnect())
        try:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not self._ended:
                task.cancel()
                self._end("disconnected")
            await asyncio.wait({task})
        finally:
            for pending in (task, watcher):
                pending.cancel()
            if not self._ended:
                self._end("disconnected")
            self._recorder.close(self.entry)
        if not task.cancelled():
            task.result()

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.entry.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, split_bytes: int = 0) -> None:
        """Send a piece of the body, in smaller pieces if asked."""
        size = split_bytes or len(body)
        for start in range(0, len(body), max(size, 1)):
            piece = body[start : start + size]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            if split_bytes:
                await asyncio.sleep(0)  # lets the piece leave before the next one

    async def finish(self, body: bytes = b"", state: State = "completed") -> None:
        """Send the rest of the body and end the response."""
        self._end(state)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def reply(
        self, status: int, body: bytes, headers: Headers = JSON_HEADERS, state: State = "completed"
    ) -> None:
        """Send a whole response."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.finish(body, state)

    async def cut(self) -> None:
        """Close the socket without ending the response, as a lost connection does."""
        self._end("cut")
        # ASGI has no word for this; the server's own object behind `send` knows the socket.
        transport: Any = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None:
            transport.close()
            await self._wait_for_disconnect()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _end(self, state: State) -> None:
        if not self._ended:
            self._ended = True
            self.entry.state = state
            self.entry.disconnected = state == "disconnected"
            self._recorder.changes.announce()
