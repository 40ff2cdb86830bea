"""Run an app under uvicorn with the options that both services share."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Literal

import uvicorn
from uvicorn.supervisors import Multiprocess

from service_kit.errors import ErrorForm
from service_kit.http_limits import HttpLimits
from service_kit.http_protocol import BoundedHttpProtocol
from service_kit.logging import configure_logging, get_logger
from service_kit.memory_protection import forbid_core_dumps
from service_kit.metrics import MULTIPROCESS_FOLDER
from service_kit.settings import CommonSettings

_log = get_logger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
# A worker answers for the first time when it has loaded the program: one that is killed for being
# slow at that, on a busy machine, is replaced by one that is as slow.
WORKER_HEALTHCHECK_SECONDS = 30
STARTUP_FAILED = 3
_ENDING_SECONDS = 2
# SD_LISTEN_FDS_START
_FIRST_INHERITED = 3
# On every answer, as OWASP's REST security cheat sheet has them; a browser finds nothing here to
# show, to guess or to frame. `Strict-Transport-Security` is the TLS proxy's to say.
SECURITY_HEADERS = (
    ("content-security-policy", "frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)


class _Supervisor(Multiprocess):
    """Watches over workers; what they no longer accept, it does not keep waiting either."""

    def keep_subprocess_alive(self) -> None:
        # The workers' own ends of the pipes. While this process has them open as well, one that
        # dies in the middle of a health check is missed only once the check's time is over.
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


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


def bind(host: str, port: int, *, setting: str = "PORT") -> socket.socket:
    """Open the listening socket, or end the program with a line that says what to do.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        setting: what names the port.
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
        sys.exit(bind_failure(host, port, error, setting))
    listener.set_inheritable(True)
    return listener


def inherited_sockets() -> list[socket.socket]:
    """Take over the listening sockets that the program which started this one holds, if any.

    They stay open while one process of a service ends and the next begins, so that no connection
    is lost in between: sd_listen_fds(3), as systemd's socket units do it.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    return [socket.socket(fileno=_FIRST_INHERITED + number) for number in range(int(count))]


def bind_failure(host: str, port: int, error: OSError, setting: str = "PORT") -> str:
    """Explain why a port could not be opened, and the way out."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is already in use. Stop the program that holds it "
            f"(`ss -ltnp 'sport = :{port}'` names it), or set {setting} to another one."
        )
    if error.errno == errno.EACCES:
        return f"No permission to open port {port} on {host}. Set {setting} to one above 1023."
    return f"Cannot listen on {host}:{port}: {error.strerror}. Check HOST and {setting}."


def serve(
    factory: str,
    *,
    host: str,
    port: int,
    protocol: Callable[..., asyncio.Protocol] | Literal["httptools"] = "httptools",
    headers: Sequence[tuple[str, str]] = (),
    metrics_port: int | None = None,
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
        protocol: makes the protocol of a connection, called as uvicorn calls its own.
        headers: on every answer.
        metrics_port: a further TCP port, which the app is to serve its metrics on.
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
        http=protocol,  # type: ignore[arg-type]  # declared as a class, and only ever called
        headers=list(headers),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        proxy_headers=bool(forwarded_allow_ips),
        forwarded_allow_ips=forwarded_allow_ips or None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=WORKER_HEALTHCHECK_SECONDS,
        timeout_graceful_shutdown=graceful_shutdown_seconds,
    )
    listeners = inherited_sockets() or [bind(host, port)]
    if metrics_port is not None and len(listeners) == 1:
        listeners.append(bind(host, metrics_port, setting="METRICS_PORT"))
    if workers > 1:
        _serve_with_workers(config, listeners)
        return
    # uvicorn raises the signal again once everything is closed.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    _AnnouncingServer(config).run(sockets=listeners)


def prepare_process(service: str, settings: CommonSettings) -> None:
    """Do what each process of a service begins with: its log, and no core file of its memory."""
    configure_logging(service=service, level=settings.log_level, log_format=settings.log_format)
    if not settings.core_dumps_allowed:
        forbid_core_dumps()


def serve_service(factory: str, settings: CommonSettings, *, form: ErrorForm) -> None:
    """Serve one of the services, bounded as its settings say.

    Args:
        factory: as `serve` takes it.
        settings: the service's.
        form: how requests that no app sees are refused.
    """
    limits = HttpLimits(
        header_bytes=settings.max_header_bytes,
        header_seconds=settings.request_header_timeout_seconds,
        body_seconds=settings.request_body_timeout_seconds,
        send_seconds=settings.send_timeout_seconds,
    )
    serve(
        factory,
        host=settings.host,
        port=settings.port,
        protocol=partial(BoundedHttpProtocol, limits, form),
        headers=SECURITY_HEADERS,
        metrics_port=settings.metrics_port or None,
        workers=settings.workers,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        # What the drain has told to end has this long to do it; then it is cancelled.
        graceful_shutdown_seconds=settings.drain_seconds + _ENDING_SECONDS,
    )


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _serve_with_workers(config: uvicorn.Config, listeners: list[socket.socket]) -> None:
    with _shared_metrics_folder():
        announce(listeners[0])
        supervisor = _Supervisor(config, sockets=listeners)
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
