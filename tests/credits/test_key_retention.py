"""Answers are remembered for a number of days, and then forgotten."""

import asyncio

from credits.drivers import Clock
from credits_service.api.render import render
from credits_service.db.audit import audit
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate
from credits_service.db.retention import KeyRetention
from credits_service.db.store import LedgerStore
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import TopUp

_DAY_MICROS = 86_400_000_000


def _top_up(key: str) -> Command:
    return Command(TopUp("ann", 5), "admin", "req", IdempotencyKey("admin", key))


async def test_a_key_is_forgotten_after_its_days_and_not_before(ledger_url: str) -> None:
    clock = Clock()
    database = open_database(database_url(ledger_url), DatabaseLimits())
    try:
        await migrate(database.writer)
        store = LedgerStore(database, render=render, clock=clock)
        retention = KeyRetention(database, clock, days=7)
        first = await store.execute([_top_up(key) for key in ("a", "b", "c")])
        clock.micros += 7 * _DAY_MICROS

        assert await retention.forget(10) == 0
        assert await store.execute([_top_up("a")]) == [first[0]._replace(replayed=True)]

        clock.micros += 1
        await store.execute([_top_up("young")])

        forgotten = await asyncio.gather(retention.forget(2), retention.forget(2))
        assert sum(forgotten) + await retention.forget(2) == 3
        assert await retention.forget(2) == 0
        (young,) = await store.execute([_top_up("young")])
        assert young.replayed
        (anew,) = await store.execute([_top_up("a")])
        assert not anew.replayed
        async with database.reader.connect() as connection:
            found = (await audit(connection)).violations
        # The key was free again: that is no doubled charge.
        assert found == []
    finally:
        await database.close()
