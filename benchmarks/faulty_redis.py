"""A Redis of the benchmark's own, which it may kill, pause and slow down."""

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.processes import BenchmarkError

SLOW_SECONDS = 0.5
_START_SECONDS_MAX = 30
_POLL_SECONDS = 0.02


class FaultyRedis:
    """A server on a Unix socket, and a relay before it that can be slow.

    Attributes:
        url: of the relay.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._delay_seconds = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(self._socket), "save": "", "appendonly": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program that the operator installed
                [self._program, *arguments], cwd=self._folder, stdout=log, stderr=log
            )
        give_up_at = time.monotonic() + _START_SECONDS_MAX
        while not self._socket.exists():
            if time.monotonic() > give_up_at or self._process.poll() is not None:
                raise BenchmarkError("Redis did not start")
            time.sleep(_POLL_SECONDS)

    def fail(self, fault: str) -> None:
        """Be stopped, paused or slow; with any other name nothing happens."""
        if fault == "stopped":
            self.stop()
        elif fault == "paused":
            self._signal(signal.SIGSTOP)
        elif fault == "slow":
            self._delay_seconds = SLOW_SECONDS

    def mend(self, fault: str) -> None:
        """End the fault."""
        if fault == "stopped":
            self.start()
        elif fault == "paused":
            self._signal(signal.SIGCONT)
        self._delay_seconds = 0.0

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the server at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def listen(self) -> asyncio.Server:
        """Open the relay."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(client, to_client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                server, to_server = await asyncio.open_unix_connection(self._socket)
                try:
                    await asyncio.gather(
                        self._pump(client, to_server), self._pump(server, to_client)
                    )
                finally:
                    to_server.close()
            finally:
                to_client.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65536):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                target.write(piece)
        target.close()

    async def cut(self) -> None:
        """Cut all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def redis_program() -> str | None:
    """Return where Redis is, if it is installed."""
    return shutil.which("redis-server")


@contextmanager
def faulty_redis(program: str, folder: Path) -> Iterator[FaultyRedis]:
    """Run a server and its relay; end both afterwards."""
    redis = FaultyRedis(program, folder)
    loop = asyncio.new_event_loop()
    relay = loop.run_until_complete(redis.listen())
    thread = threading.Thread(target=loop.run_forever, name="redis-relay")
    thread.start()
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()
        relay.close()
        asyncio.run_coroutine_threadsafe(redis.cut(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
