"""A Redis of a test's own, which it may kill, pause and slow down."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from support.components import skip_or_fail
from support.postgres_cluster import HOST, free_port, wait_until
from support.slow_proxy import SlowProxy, slow_proxy

FAULTS = ("stopped", "paused", "slow")
SLOW_SECONDS = 0.5
_STOP_SECONDS = 30


class RedisServer:
    """One server, that keeps what it has over a `kill`, as production's keep answers.

    Attributes:
        port: on the loopback interface.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            skip_or_fail("redis-server is not installed")
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
        wait_until("Redis answers", self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        try:
            with redis.Redis(HOST, self.port, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, new ones are taken, nothing comes back."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None


class FaultyRedis:
    """A server behind a wire, and the faults that it can have.

    Attributes:
        url: of the server, by way of the wire.
    """

    def __init__(self, server: RedisServer, wire: SlowProxy) -> None:
        self.url = f"redis://{HOST}:{wire.port}"
        self._server = server
        self._wire = wire
        self._fault: str | None = None

    def fail(self, fault: str) -> None:
        """Have one of the `FAULTS`."""
        self._fault = fault
        if fault == "stopped":
            self._server.kill()
        elif fault == "paused":
            self._server.pause()
        else:
            assert fault == "slow"
            self._wire.delay_seconds = SLOW_SECONDS

    def mend(self) -> None:
        """Be well again, if there was a fault."""
        fault, self._fault = self._fault, None
        if fault == "stopped":
            self._server.start()
        elif fault == "paused":
            self._server.go_on()
        else:
            self._wire.delay_seconds = 0


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a server; end it afterwards, however it is."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def faulty_redis(folder: Path) -> Iterator[FaultyRedis]:
    """Run a server behind a wire; end both afterwards."""
    with redis_server(folder) as server, slow_proxy(server.port) as wire:
        yield FaultyRedis(server, wire)
