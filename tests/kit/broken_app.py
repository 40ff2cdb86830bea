"""An app whose start fails, for the tests of the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette


async def _connect() -> None:
    raise RuntimeError("the database is gone")


@asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[None]:
    await _connect()
    yield


def create_app() -> Starlette:
    """Make the app; it can't start."""
    return Starlette(lifespan=_lifespan)
