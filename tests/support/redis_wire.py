"""A Redis that answers, and a wire to it that a test can cut."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import redis

from support.components import skip_or_fail

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")


def require_redis() -> str:
    """Return the URL of a Redis that answers."""
    try:
        with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        skip_or_fail(f"Redis could not be reached: {error}")
    return REDIS_URL


class Wire:
    """A TCP relay in front of Redis that can be cut and mended."""

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        self._target = (target.hostname or "127.0.0.1", target.port or 6379)
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.is_cut = False
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.close()
            return
        back_reader, back_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, back_writer}
        self._pumps |= {
            asyncio.create_task(_pump(reader, back_writer)),
            asyncio.create_task(_pump(back_reader, writer)),
        }

    def cut(self) -> None:
        self.is_cut = True
        for writer in self._open:
            writer.close()
        self._open.clear()

    def mend(self) -> None:
        self.is_cut = False

    async def stop(self) -> None:
        self.cut()
        await asyncio.gather(*self._pumps)
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        return
    finally:
        writer.close()


@asynccontextmanager
async def redis_wire() -> AsyncIterator[Wire]:
    """Lay a wire to the Redis that answers."""
    wire = Wire(require_redis())
    await wire.start()
    try:
        yield wire
    finally:
        await wire.stop()
