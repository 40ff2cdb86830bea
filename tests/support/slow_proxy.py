"""A TCP relay between a service and its database that can delay, stall or refuse."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.postgres_cluster import HOST


class SlowProxy:
    """Relays connections; what it does to them can be changed at any moment.

    Attributes:
        port: that it listens on.
        delay_seconds: how long each piece is kept before it is passed on.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.delay_seconds = 0.0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def swallow(self) -> None:
        """From now on pass nothing on: to both sides the other one is silent."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def pass_on(self) -> None:
        """Pass on again, what was kept included."""
        self._loop.call_soon_threadsafe(self._open.set)

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                server, to_server = await asyncio.open_connection(HOST, self._target_port)
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._pump(client, to_server))
                        both.create_task(self._pump(server, to_client))
                finally:
                    to_server.close()
            finally:
                to_client.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65536):
                await asyncio.sleep(self.delay_seconds)
                await self._open.wait()
                target.write(piece)
                await target.drain()
        target.close()

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._relay(client, to_client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def close(self) -> None:
        """Cut all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def slow_proxy(target_port: int) -> Iterator[SlowProxy]:
    """Run a relay to a port, in a thread with a loop of its own."""
    proxy = SlowProxy(target_port)
    loop = proxy._loop
    server = loop.run_until_complete(proxy.listen())
    thread = threading.Thread(target=loop.run_forever, name="slow-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        server.close()
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
