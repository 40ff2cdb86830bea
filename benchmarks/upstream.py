"""A fake Gemini that is never the bottleneck: canned bytes from a raw protocol on uvloop.

Started as a process of its own: `python -m benchmarks.upstream`.
"""

import asyncio
import json
from typing import cast

import uvloop
from benchmarks import canned

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_JSON_HEAD = _HEAD % b"application/json; charset=UTF-8"
_STREAM_HEAD = _HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"


def _whole(body: bytes) -> bytes:
    return _JSON_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunks(count: int) -> list[bytes]:
    framed = [b"%x\r\n%s\r\n" % (len(event), event) for event in canned.events(count)]
    framed[-1] += _LAST
    return framed


_ANSWER = _whole(
    canned.answer(canned.text(canned.CHUNKS), canned.CHUNKS * canned.TOKENS_PER_CHUNK, "STOP")
)
_COUNT = _whole(json.dumps({"totalTokens": canned.PROMPT_TOKENS}).encode())
_FAST, _PACED = _chunks(canned.CHUNKS), _chunks(canned.PACED_CHUNKS)
_MARK = canned.PACED_MARK.encode()


class FakeGemini(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop's transports derive from nothing of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop whatever is being sent."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer once the request is there with its body."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.partition(b"\r\n")[0]):
            return
        self._received = b""
        self._answer(head.partition(b"\r\n")[0], body)

    def _answer(self, line: bytes, body: bytes) -> None:
        assert self._transport is not None
        if b":streamGenerateContent" in line:
            self._transport.write(_STREAM_HEAD)
            if _MARK in body:
                self._loop.call_later(canned.FIRST_CHUNK_SECONDS, self._send, _PACED, 0)
            else:
                self._loop.call_soon(self._send, _FAST, 0)
        else:
            self._transport.write(_COUNT if b":countTokens" in line else _ANSWER)

    def _send(self, chunks: list[bytes], number: int) -> None:
        """Write one chunk, as one packet if the reader keeps up, and plan the next."""
        if self._transport is None:
            return
        self._transport.write(chunks[number])
        number += 1
        if number == len(chunks):
            return
        if chunks is _PACED:
            self._loop.call_later(canned.PACE_SECONDS, self._send, chunks, number)
        else:
            self._loop.call_soon(self._send, chunks, number)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeGemini(loop), "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"event": "listening", "url": f"http://127.0.0.1:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
