"""Requests as bytes: what HTTP clients would tidy first goes over the wire as it is written."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RawRequest:
    """What is sent.

    Attributes:
        method: as it stands in the request line.
        target: the same, byte for byte.
        headers: besides `Host` and `Content-Length`.
        body: may be empty.
    """

    method: str
    target: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def written(self, host: str) -> bytes:
        """Return the request for a server."""
        headers = {"host": host, **self.headers}
        if self.body:
            headers["content-length"] = str(len(self.body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line = self.method.encode() + b" " + self.target + b" HTTP/1.1\r\n"
        return line + lines.encode("latin-1") + b"\r\n" + self.body


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back; the names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded."""
        return json.loads(self.body)

    @property
    def served(self) -> bool:
        """Whether it is an answer of success."""
        return 200 <= self.status < 300


class RawClient:
    """One connection to a server, opened again whenever that has closed it.

    Attributes:
        host: name and port, as a `Host` header has them.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port)
        self.host = parts.netloc
        self._socket: socket.socket | None = None

    def send(self, request: RawRequest) -> RawAnswer:
        """Send a request and return the answer.

        Raises:
            HTTPException: what came is no answer.
        """
        reused = self._socket is not None
        try:
            return self._exchange(request)
        except (HTTPException, ConnectionError):
            self.close()
            # A connection that was open may have been closed before the request was there.
            if not reused:
                raise
            return self._exchange(request)

    def _exchange(self, request: RawRequest) -> RawAnswer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, _TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request.written(self.host))
        with HTTPResponse(self._socket, method=request.method) as response:
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = RawAnswer(response.status, headers, body)
            will_close = response.will_close
        if will_close:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


@contextmanager
def raw_client(url: str) -> Iterator[RawClient]:
    """Yield a client of a server; its connection is closed at the end."""
    client = RawClient(url)
    try:
        yield client
    finally:
        client.close()
