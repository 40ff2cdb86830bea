"""Run an app under uvicorn with the options that both services share."""

import errno
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from service_kit.logging import get_logger

_log = get_logger(__name__)

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
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
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
    """Serve the app that an import string makes, until a signal ends it.

    Args:
        factory: ``package.module:function``, called without arguments in each worker.
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
        proxy_headers=bool(forwarded_allow_ips),
        forwarded_allow_ips=forwarded_allow_ips or None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful_shutdown_seconds,
    )
    listener = bind(host, port)
    if workers > 1:
        listener.listen(config.backlog)
        announce(listener)
        Multiprocess(config, sockets=[listener]).run()
        return
    server = _AnnouncingServer(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit(STARTUP_FAILED)
