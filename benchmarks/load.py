"""The load client: closed loop, keep-alive, every answer compared with the expected bytes.

A process of its own, on raw protocols, so that it costs less than what it measures. It reads a
`Load` from standard input and writes a `Measured` to standard output, both as JSON.
"""

import asyncio
import re
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

_HEAD_END = b"\r\n\r\n"
_CHUNKED_END = b"\r\n0\r\n\r\n"


class Expected(msgspec.Struct):
    """An answer as it must be, once what differs from one to the next is taken out.

    Attributes:
        varying: regular expressions with one group: its first match is taken out everywhere.
        status: HTTP status.
        body: what is left of the body.
    """

    varying: list[str]
    status: int
    body: bytes

    def difference(self, status: int, body: bytes) -> str | None:
        """Return what is wrong with an answer, or None."""
        if status != self.status:
            return f"status {status}: {body[:500]!r}"
        left = without(body, self.varying)
        if left != self.body:
            return f"wrong answer: {left[:500]!r} instead of {self.body[:500]!r}"
        return None


class Load(msgspec.Struct):
    """What to send.

    Attributes:
        seconds: how long new requests are begun; None: one for each connection.
        key_prefix: makes an idempotency key for each request; empty for none.
        pause_seconds: how long each connection rests between an answer and its next request.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    connections: int
    seconds: float | None
    expected: Expected
    key_prefix: str = ""
    pause_seconds: float = 0.0


class Measured(msgspec.Struct):
    """What came of it: latencies to the last byte, and to the first one of the body."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    first_p50_ms: float
    first_p99_ms: float
    error: str | None


def without(body: bytes, varying: list[str]) -> bytes:
    """Take out what differs from one answer to the next."""
    for pattern in varying:
        found = re.search(pattern.encode(), body)
        if found is not None:
            body = body.replace(found[1], b"?")
    return body


def unframed(raw: bytes) -> bytes:
    """Return the content of a body in HTTP's chunked coding."""
    pieces: list[bytes] = []
    at = 0
    while True:
        line_end = raw.index(b"\r\n", at)
        size = int(raw[at:line_end], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(raw[line_end + 2 : line_end + 2 + size])
        at = line_end + size + 4


class Run:
    """What the connections share."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.url)
        assert parts.hostname
        self.load = load
        self.host, self.port = parts.hostname, parts.port or 80
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}"]
        headers = {**load.headers, "content-length": str(len(load.body))}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join(lines).encode()
        self._sent = 0
        self.until = 0.0
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.error: str | None = None
        self.open = 0
        self.done = asyncio.Event()

    def request(self) -> bytes:
        """Return the bytes of the next request."""
        self._sent += 1
        key = b""
        if self.load.key_prefix:
            key = b"\r\nidempotency-key: %s-%d" % (self.load.key_prefix.encode(), self._sent)
        return self._head + key + _HEAD_END + self.load.body

    def fail(self, reason: str) -> None:
        """Note the first failure, after which no connection goes on."""
        self.error = self.error or reason
        self.until = 0.0


class Connection(asyncio.Protocol):
    """One request after the other on one connection."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._head: bytes | None = None
        self._length: int | None = None
        self._received = 0
        self._began = self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out; `send` begins when all are connected."""
        # uvloop's transports derive from nothing of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._run.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Count out; in the middle of an answer it is a failure."""
        if self._began:
            self._run.fail("the connection was lost in the middle of an answer")
        self._run.open -= 1
        if not self._run.open:
            self._run.done.set()

    def send(self) -> None:
        """Begin the next request."""
        assert self._transport is not None
        self._head, self._length, self._pieces, self._received = None, None, [], 0
        self._began, self._first = time.perf_counter(), 0.0
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        """Collect the answer."""
        if self._head is None:
            self._pieces.append(data)
            head, found, data = b"".join(self._pieces).partition(_HEAD_END)
            if not found:
                return
            self._pieces = []
            self._head = head.lower()
            _, has_length, rest = self._head.partition(b"\r\ncontent-length:")
            self._length = int(rest.partition(b"\r\n")[0]) if has_length else None
        if data:
            self._first = self._first or time.perf_counter()
            self._pieces.append(data)
            self._received += len(data)
        if self._length is None:
            # No JSON text has a line end in it, so that this can only be the coding's end.
            tail = data if len(data) >= len(_CHUNKED_END) else b"".join(self._pieces[-8:])
            if tail.endswith(_CHUNKED_END):
                self._finish(unframed(b"".join(self._pieces)))
        elif self._received >= self._length:
            self._finish(b"".join(self._pieces))

    def _finish(self, body: bytes) -> None:
        assert self._head is not None
        assert self._transport is not None
        now = time.perf_counter()
        run = self._run
        run.latencies.append(now - self._began)
        run.firsts.append((self._first or now) - self._began)
        self._began = 0.0
        difference = run.load.expected.difference(int(self._head[9:12]), body)
        if difference:
            run.fail(difference)
        if now < run.until and run.load.pause_seconds:
            asyncio.get_running_loop().call_later(run.load.pause_seconds, self.send)
        elif now < run.until:
            self.send()
        else:
            self._transport.close()


def percentile_ms(seconds: list[float], share: float) -> float:
    """Return the latency that a share of the requests stays within."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


async def measure(load: Load) -> Measured:
    """Send the load and return what came of it."""
    run = Run(load)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(run), run.host, run.port))[1]
        for _ in range(load.connections)
    ]
    began = time.perf_counter()
    run.until = began + load.seconds if load.seconds else 0.0
    for number, connection in enumerate(connections):
        # Those that rest between requests don't ask all at the same time.
        wait_seconds = load.pause_seconds * number / len(connections)
        loop.call_later(wait_seconds, connection.send)
    await run.done.wait()
    return Measured(
        answers=len(run.latencies),
        seconds=time.perf_counter() - began,
        p50_ms=percentile_ms(run.latencies, 0.5),
        p99_ms=percentile_ms(run.latencies, 0.99),
        max_ms=percentile_ms(run.latencies, 1),
        first_p50_ms=percentile_ms(run.firsts, 0.5),
        first_p99_ms=percentile_ms(run.firsts, 0.99),
        error=run.error,
    )


def main() -> None:
    """Run as a process of its own."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measure(load))))


if __name__ == "__main__":
    main()
