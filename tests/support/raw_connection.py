"""A bare connection to a service: what no well-behaved client would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

_TIMEOUT_SECONDS = 60
_PIECE_BYTES = 65_536


class RawAnswer(NamedTuple):
    """One answer, and what came behind it before the service closed the connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """Return the body."""
        return msgspec.json.decode(self.body, type=dict[str, object])


class RawConnection:
    """A socket that sends bytes as they are."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def send(self, data: bytes) -> None:
        """Send all of it; a service that has closed already is no failure."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def rest(self) -> bytes:
        """Return all that comes until the service closes the connection."""
        pieces: list[bytes] = []
        try:
            while piece := self.socket.recv(_PIECE_BYTES):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def answer(self) -> RawAnswer:
        """Return the one answer after which the service closes the connection."""
        head, _, body = self.rest().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return RawAnswer(int(first.split()[1]), {name: value for name, _, value in pairs}, body)


@contextmanager
def raw_connection(url: str) -> Iterator[RawConnection]:
    """Connect to a service's base URL."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), _TIMEOUT_SECONDS) as connected:
        yield RawConnection(connected)
