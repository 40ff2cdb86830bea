"""The audit of a whole ledger: limits of its own, and an answer of bounded size."""

import asyncio
from collections.abc import Iterable

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from credits.client import ADMIN_KEY, CreditsClient, app_of
from credits.command import fill
from credits_service.db import audit_keys
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.limits import Pooler
from credits_service.db.migrate import migrate
from credits_service.db.tables import idempotency_keys
from credits_service.ledger.violations import KEPT_PER_INVARIANT, Violation, Violations
from support.databases import postgres_database
from support.live_server import live_server


@pytest.mark.parametrize("pooler", ["none", "transaction"])
def test_statements_of_the_audit_outlast_those_of_readers(pooler: Pooler) -> None:
    """Both on the server and on this side, with the settings for a pooler and without."""

    async def check(url: str) -> None:
        limits = DatabaseLimits(statement_seconds=0.2, pooler=pooler)
        database = open_database(database_url(url), limits)
        try:
            async with database.reader.connect() as reading:
                with pytest.raises(DBAPIError):
                    await reading.exec_driver_sql("SELECT pg_sleep(2.5)")
            async with database.auditor.connect() as auditing:
                # Longer than a reader's statement may take on either side.
                await auditing.exec_driver_sql("SELECT pg_sleep(2.5)")
        finally:
            await database.close()

    with postgres_database() as url:
        asyncio.run(check(url))


def test_examples_of_each_invariant_are_kept_and_the_rest_is_counted() -> None:
    one, whole = Violations("ann"), Violations()
    for number in range(50):
        one.ensure("1 first", False, f"row {number}")
    one.ensure("2 second", False, "row")
    whole.merge(one)
    whole.merge(one)
    whole.extend([Violation("3 third", None, "row")])
    assert whole.total == 103
    kept = [violation.invariant for violation in whole.found]
    assert [kept.count(name) for name in ("1 first", "2 second", "3 third")] == [
        KEPT_PER_INVARIANT,
        2,
        1,
    ]


def test_a_ledger_that_is_broken_everywhere_gets_a_short_answer(ledger_url: str) -> None:
    fill(ledger_url, 60)
    switch = (
        "DROP TRIGGER transactions_no_update"
        if ledger_url.startswith("sqlite")
        else "SET session_replication_role = replica"
    )
    asyncio.run(_execute(ledger_url, switch, "UPDATE transactions SET description = 'forged'"))
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        found = client.call("GET", "/integrity", api_key=ADMIN_KEY).json()
    assert not found["ok"]
    assert len(found["violations"]) == KEPT_PER_INVARIANT
    assert found["violations_total"] == found["transactions"] == 80


async def test_wrong_answers_are_counted_some_at_a_time(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be as many as there are keys."""

    class Noting(Violations):
        largest = 0

        def extend(self, violations: Iterable[Violation]) -> None:
            found = list(violations)
            self.largest = max(self.largest, len(found))
            super().extend(found)

    monkeypatch.setattr(audit_keys, "_ROWS_PER_STEP", 10)
    noting = Noting()
    database = open_database(database_url(ledger_url), DatabaseLimits())
    try:
        await migrate(database.writer)
        rows = [
            {"scope": "s", "key": f"k{number}", "fingerprint": b"", "status": 200, "body": b"{}"}
            | {"created_at_micros": 1}
            for number in range(55)
        ]
        async with database.writer.begin() as connection:
            await connection.execute(insert(idempotency_keys), rows)
        async with database.auditor.begin() as connection:
            await audit_keys.audit_keys(connection, noting)
    finally:
        await database.close()
    assert (noting.total, len(noting.found)) == (55, KEPT_PER_INVARIANT)
    assert 0 < noting.largest <= 10


async def _execute(url: str, *statements: str) -> None:
    database = open_database(database_url(url), DatabaseLimits())
    try:
        async with database.writer.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await database.close()
