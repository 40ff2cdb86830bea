"""A client with one connection, for what is measured one request after the other."""

import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from benchmarks.processes import BenchmarkError
from benchmarks.services import ADMIN_KEY, SERVICE_KEY, bearer

_SECONDS_MAX = 600
# The service closes connections that nothing is asked on for some seconds.
_IDLE_SECONDS_MAX = 1
_CHUNK_BYTES = 64 * 1024
_FIRST_REFUSAL = 300


class Client:
    """Asks a credits service; every answer must be a success."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS_MAX)
        self._used_at = 0.0
        self._name = uuid.uuid4().hex
        self._keys = 0

    def get(self, path: str) -> Any:
        """Return the decoded answer."""
        return msgspec.json.decode(self._send("GET", path, None, bearer(SERVICE_KEY)).read())

    def post(self, path: str, body: Any, *, as_operator: bool = False) -> Any:
        """Send a body under a new idempotency key and return the decoded answer."""
        self._keys += 1
        key = f"{self._name}-{self._keys}"
        headers = {**bearer(ADMIN_KEY if as_operator else SERVICE_KEY), "idempotency-key": key}
        content = msgspec.json.encode(body)
        return msgspec.json.decode(self._send("POST", path, content, headers).read())

    def post_encoded(self, path: str, body: bytes) -> bytes:
        """Send a body that is encoded already, and return the answer's."""
        return self._send("POST", path, body, bearer(SERVICE_KEY)).read()

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the pieces of a long answer as they come; as an operator."""
        response = self._send("GET", path, None, bearer(ADMIN_KEY))
        while piece := response.read(_CHUNK_BYTES):
            yield piece

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HTTPResponse:
        if time.monotonic() > self._used_at + _IDLE_SECONDS_MAX:
            self._connect()
        self._connection.request(method, f"/api/v1{path}", body, headers)
        response = self._connection.getresponse()
        if response.status >= _FIRST_REFUSAL:
            raise BenchmarkError(f"{method} {path}: {response.status} {response.read()[:500]!r}")
        self._used_at = time.monotonic()
        return response

    def _connect(self) -> None:
        self._connection.close()
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
