"""A database that falls silent holds a batch, and with it the queue, for a bounded time."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import make_url

from credits_service.api.render import render
from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate
from credits_service.db.store import LedgerStore
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import Charge, TopUp
from credits_service.ledger.writer import Writer
from support.databases import postgres_database, require_postgres
from support.slow_proxy import SlowProxy, slow_proxy

BATCH_SECONDS = 0.3
# How long the attempts would go on by themselves.
STATEMENT_SECONDS = 60.0


@pytest.fixture
def silenced() -> Iterator[tuple[str, SlowProxy]]:
    """A ledger's URL, and what can make its server silent."""
    require_postgres()
    with postgres_database() as url:
        server = make_url(url)
        with slow_proxy(server.port or 5432) as proxy:
            through = server.set(host="127.0.0.1", port=proxy.port)
            yield through.render_as_string(hide_password=False), proxy


async def test_a_batch_and_closing_end_though_the_database_says_nothing(
    silenced: tuple[str, SlowProxy],
) -> None:
    url, proxy = silenced
    limits = DatabaseLimits(connect_seconds=1.0, statement_seconds=STATEMENT_SECONDS)
    database = open_database(database_url(url), limits)
    await migrate(database.writer)
    store = LedgerStore(database, render=render, clock=None, batch_seconds=BATCH_SECONDS)
    writer = Writer(store, LedgerMetrics(CollectorRegistry()), max_batch=1, close_seconds=0.01)
    writer.start()
    await writer.submit(Command(TopUp("ann", 100), "tester", "req"))

    proxy.swallow()
    charge = Command(Charge("ann", 1), "tester", "req")
    # Not a matter of speed: without an end each of them would take minutes.
    async with asyncio.timeout(STATEMENT_SECONDS):
        charges = asyncio.create_task(writer.submit_many([charge] * 20))
        await asyncio.sleep(0)
        await writer.close()
        outcomes = await charges
    assert all(isinstance(outcome, LedgerUnavailableError) for outcome in outcomes)
    proxy.pass_on()
    await database.close()
