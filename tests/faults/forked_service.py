"""A service in a forked process, which is there to be killed."""

import asyncio
import os
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from support.fork_server import Report


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()


def serve_forked(app: ASGIApp, report: Report, port: int = 0) -> None:
    """Serve until somebody ends the process; report once it listens, and where.

    Args:
        app: what is served, its lifespan included.
        report: is told the URL and the process id.
        port: where it listens; 0 takes a free one.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app, loop="asyncio", http="httptools", ws="none", log_config=None, access_log=False
    )
    host, bound = listener.getsockname()
    listening = {"url": f"http://{host}:{bound}", "pid": os.getpid()}
    server = _Server(config, lambda: report(listening))
    asyncio.run(server.serve([listener]))
