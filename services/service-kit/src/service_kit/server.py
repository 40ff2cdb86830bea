"""Run an app under uvicorn with the options that both services share."""

import contextlib
import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from service_kit.logging import get_logger
from service_kit.metrics import MULTIPROCESS_FOLDER

_log = get_logger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
STARTUP_FAILED = 3


class _AnnouncingServer(uvicorn.Server):
    """Says on which URL it listens once it really does: other programs wait for this line."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            announce(sockets[0])


def announce(listener: socket.socket) -> None:
    """Log the one line that tells where the service can be reached."""
    host, port = listener.getsockname()[:2]
    _log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", port=port)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket, or end the program with a line that says what to do.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only where it is: without
    # that, a client's delayed acknowledgement can hold an answer's end for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once: until one of them listens, Linux lets two programs bind the same port.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        sys.exit(bind_failure(host, port, error))
    listener.set_inheritable(True)
    return listener


def bind_failure(host: str, port: int, error: OSError) -> str:
    """Explain why a port could not be opened, and the way out."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is already in use. Stop the program that holds it "
            f"(`ss -ltnp 'sport = :{port}'` names it), or set PORT to another one."
        )
    if error.errno == errno.EACCES:
        return f"No permission to open port {port} on {host}. Set PORT to one above 1023."
    return f"Cannot listen on {host}:{port}: {error.strerror}. Check HOST and PORT."


def serve(
    factory: str,
    *,
    host: str,
    port: int,
    workers: int = 1,
    forwarded_allow_ips: str = "",
    graceful_shutdown_seconds: int | None = None,
) -> None:
    """Serve the app that an import string makes, until SIGTERM or SIGINT ends it (exit code 0).

    Args:
        factory: ``package.module:function``, called without arguments in each worker, where
            it also configures the logging.
        host: address to listen on.
        port: TCP port; 0 takes a free one, which the log line "listening" tells.
        workers: number of processes.
        forwarded_allow_ips: peers whose ``X-Forwarded-For`` is believed, comma-separated.
        graceful_shutdown_seconds: how long running responses may take after SIGTERM.
    """
    config = uvicorn.Config(
        factory,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        proxy_headers=bool(forwarded_allow_ips),
        forwarded_allow_ips=forwarded_allow_ips or None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful_shutdown_seconds,
    )
    listener = bind(host, port)
    if workers > 1:
        _serve_with_workers(config, listener)
        return
    # uvicorn raises the signal again once everything is closed.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    _AnnouncingServer(config).run(sockets=[listener])


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _serve_with_workers(config: uvicorn.Config, listener: socket.socket) -> None:
    with _shared_metrics_folder():
        announce(listener)
        supervisor = Multiprocess(config, sockets=[listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILED for process in supervisor.processes):
        sys.exit(STARTUP_FAILED)


@contextlib.contextmanager
def _shared_metrics_folder() -> Iterator[None]:
    """Give the workers an empty folder for their metrics, unless the operator named one."""
    if os.environ.get(MULTIPROCESS_FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[MULTIPROCESS_FOLDER]
