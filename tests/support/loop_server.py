"""An ASGI app under a real uvicorn in the test's own event loop, so that the test sees inside."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import uvicorn
from starlette.types import ASGIApp


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # They are the test runner's.
        yield


@contextlib.asynccontextmanager
async def loop_server(
    app: ASGIApp, *, port: int = 0, lifespan: Literal["on", "off"] = "on"
) -> AsyncIterator[str]:
    """Serve the app and yield its base URL.

    Args:
        app: what is served.
        port: where it listens; 0 takes a free one.
        lifespan: `off` for an app whose lifespan somebody else runs.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]), name="uvicorn")
    listening = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        assert server.started, "the app did not start"
        host, bound = listener.getsockname()
        yield f"http://{host}:{bound}"
    finally:
        listening.cancel()
        server.should_exit = True
        await serving
        listener.close()
