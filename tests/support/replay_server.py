"""Plays Gemini from recorded exchanges, over a real socket.

Whatever is asked, it answers with what was recorded: status, content type and bytes. A stream
is sent in Gemini's form (CRLF, one `data:` line an event), or exactly as it was recorded where
the recording kept the text.
"""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.live_server import live_server

EVENT_STREAM = "text/event-stream"
JSON = "application/json; charset=UTF-8"
GATE_SECONDS_MAX = 30
# How Gemini reports that it has failed after some chunks: a bare object between the events.
MID_STREAM_ERROR = b"""{
  "error": {
    "code": 503,
    "message": "The service is currently unavailable.",
    "status": "UNAVAILABLE"
  }
}
"""


@dataclass(frozen=True)
class Answer:
    """What is sent for one request.

    Attributes:
        pieces: the body; each piece is written by itself.
        gate_after: how many pieces are sent before the gate; None for all at once.
    """

    status: int
    content_type: str
    pieces: tuple[bytes, ...]
    gate_after: int | None = None

    @property
    def body(self) -> bytes:
        """All that is sent."""
        return b"".join(self.pieces)

    def cut(self, sizes: Sequence[int]) -> "Answer":
        """Return the same answer in pieces of these sizes in bytes, over and over."""
        return Answer(self.status, self.content_type, tuple(cut(self.body, sizes)))

    def gated(self, after: int) -> "Answer":
        """Return the same answer with the gate after so many pieces."""
        return Answer(self.status, self.content_type, self.pieces, after)


def cut(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut a body into pieces of these sizes in bytes, over and over until it is used up."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(body):
            return
        yield body[start : start + size]
        start += size


def chunks_of(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what Gemini answered: the chunks of a stream, or the one whole answer."""
    stream = recorded.get("response_sse")
    return [recorded["response"]] if stream is None else list(stream)


def whole(recorded: Mapping[str, Any], answer: Mapping[str, Any] | None = None) -> Answer:
    """Return the answer to `generateContent`, or another in its place."""
    body = _pretty(recorded["response"] if answer is None else answer)
    return Answer(recorded["status"], recorded.get("content_type") or JSON, (body,))


def streamed(recorded: Mapping[str, Any]) -> Answer:
    """Return the answer to `streamGenerateContent?alt=sse`.

    An error that comes before the stream has the stream's content type, and its plain body.
    """
    if recorded["status"] != 200:
        return Answer(recorded["status"], EVENT_STREAM, (_pretty(recorded["response"]),))
    text = recorded.get("response_sse_raw")
    if text is not None:
        return Answer(200, EVENT_STREAM, tuple(text.encode().splitlines(keepends=True)))
    return Answer(200, EVENT_STREAM, tuple(_event(chunk) for chunk in chunks_of(recorded)))


def as_array(recorded: Mapping[str, Any]) -> Answer:
    """Return the answer to `streamGenerateContent` without `alt=sse`: a JSON array."""
    bodies = [_pretty(chunk) for chunk in chunks_of(recorded)]
    pieces = [b"[" + bodies[0], *(b"\n,\r\n" + body for body in bodies[1:]), b"\n]"]
    return Answer(200, recorded.get("content_type") or JSON, tuple(pieces))


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n"


def _pretty(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode()


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that came in."""

    method: str
    url: str
    body: dict[str, Any]


class ReplayServer:
    """Stands in for Gemini. What it plays is set before each request, by the test's thread.

    Attributes:
        url: its base URL.
        requests: what came in since the last `play`.
        gate: while a test holds it, streams with a gate stand there.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[ReceivedRequest] = []
        self.gate = threading.Event()
        self._answers: dict[str, Answer] = {}

    def play(self, *, whole: Answer | None = None, streamed: Answer | None = None) -> None:
        """Set what is answered from now on, to either method."""
        answers = {"generateContent": whole, "streamGenerateContent": streamed}
        self._answers = {name: answer for name, answer in answers.items() if answer is not None}
        self.requests = []
        self.gate.clear()

    def app(self) -> Starlette:
        """Return it as an ASGI app."""
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        name = request.url.path.rpartition(":")[2]
        answer = self._answers.get(name)
        self.requests.append(ReceivedRequest(name, str(request.url), await request.json()))
        if answer is None:
            text = f"{request.url.path} is not played now"
            error = {"code": 501, "message": text, "status": "UNIMPLEMENTED"}
            return JSONResponse({"error": error}, 501)
        return StreamingResponse(
            self._pieces(answer),
            status_code=answer.status,
            headers={"content-type": answer.content_type, "content-disposition": "attachment"},
        )

    async def _pieces(self, answer: Answer) -> AsyncIterator[bytes]:
        for number, piece in enumerate(answer.pieces):
            if number == answer.gate_after:
                await asyncio.to_thread(self.gate.wait, GATE_SECONDS_MAX)
            yield piece


@contextmanager
def replay_server() -> Iterator[ReplayServer]:
    """Run a server."""
    server = ReplayServer()
    with live_server(server.app()) as url:
        server.url = url
        yield server
