"""Running credits services, one of them with a clock that a test moves."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from credits.bad_requests import World
from credits.client import CreditsClient, app_of
from credits.drivers import Clock
from support.ledgers import ENGINES, empty_ledger
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


@pytest.fixture
def timed(clock: Clock, ledger_url: str) -> Iterator[CreditsClient]:
    """A client of a service that tells the time by `clock`, on each engine."""
    with live_server(app_of(ledger_url, clock)) as base_url, CreditsClient(base_url) as client:
        yield client


@pytest.fixture(scope="module", params=ENGINES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One service for all tests of a file: they are to leave it as it was."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("world")
        url = stack.enter_context(empty_ledger(request.param, folder))
        base_url = stack.enter_context(live_server(app_of(url)))
        yield World(stack.enter_context(CreditsClient(base_url)))
