"""Running credits services, one of them with a clock that a test moves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from credits.client import CreditsClient, app_of
from credits.drivers import Clock
from support.live_server import live_server


@pytest.fixture
def service(ledger_url: str) -> Iterator[CreditsClient]:
    """A client of a service on an empty ledger, over a real socket."""
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed_service(clock: Clock, tmp_path: Path) -> Iterator[CreditsClient]:
    """A client of an app on an empty SQLite ledger that tells the time by `clock`."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'timed.sqlite3'}"
    with live_server(app_of(url, clock)) as base_url, CreditsClient(base_url) as client:
        yield client
