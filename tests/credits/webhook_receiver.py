"""A receiver of webhooks over a real socket, which answers as a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """Return the content as an independent implementation reads it."""
        content: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return content


class Receiver:
    """Answers with a status, or with whatever bytes it is told to.

    Attributes:
        received: what came, in order.
        answer: returns the answer to the delivery of a number, counted from 1.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[int], int | bytes] = lambda _number: 204
        self.url = ""
        self._came = asyncio.Condition()

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.received]

    async def has_received(self, count: int) -> list[Received]:
        async with self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in fields}
            body = await reader.readexactly(int(headers["content-length"]))
            async with self._came:
                self.received.append(Received(headers, body))
                self._came.notify_all()
            answer = self.answer(len(self.received))
            if isinstance(answer, int):
                answer = f"HTTP/1.1 {answer} Said\r\ncontent-length: 0\r\n\r\n".encode()
            writer.write(answer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=b%2Fc"
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
