"""A TCP relay that lets a number of bytes through and then holds its breath."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_PIECE = 16 * 1024
_WAIT_SECONDS = 60


class Gate:
    """Relays connections to a server until clients have sent so many bytes.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, server: tuple[str, int], bytes_max: int) -> None:
        self._server = server
        self._left = bytes_max
        self._shut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                for source, sink, counted in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._relay, args=(source, sink, counted), daemon=True
                    ).start()

    def _relay(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                if counted:
                    self._left -= len(piece)
                    if self._left < 0:
                        self._shut.set()
                        return
                sink.sendall(piece)

    def wait_until_shut(self) -> None:
        """Return once the bytes are used up; what came after them is not passed on."""
        assert self._shut.wait(_WAIT_SECONDS), "not so many bytes were sent"

    def close(self) -> None:
        """Close both ends of every connection."""
        for each in (self._listener, *self._sockets):
            # A thread that waits to read from it would keep it open.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def gate(server: tuple[str, int], bytes_max: int) -> Iterator[Gate]:
    """Open a gate, and close it at the end."""
    opened = Gate(server, bytes_max)
    try:
        yield opened
    finally:
        opened.close()
