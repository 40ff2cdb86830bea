"""The same machine through the writer on real databases, and what the databases refuse."""

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from credits.drivers import Driver, WriterDriver
from credits.machine import LedgerMachine
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.db.migrate import is_migrated, migrate
from credits_service.db.tables import metadata
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge, TopUp

MACHINE_SETTINGS = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class SharedDriver(WriterDriver):
    """A driver that several examples use one after the other."""

    def close(self) -> None:
        """Stay open for the next example."""


def test_the_machine_finds_no_difference_to_the_model(ledger_url: str) -> None:
    driver = SharedDriver(ledger_url)

    class StoredMachine(LedgerMachine):
        @staticmethod
        def make_driver() -> Driver:
            return driver

    try:
        run_state_machine_as_test(StoredMachine, settings=MACHINE_SETTINGS)
    finally:
        WriterDriver.close(driver)


async def _opened(url: str) -> Database:
    database = open_database(database_url(url), DatabaseLimits())
    await migrate(database.writer)
    return database


async def _execute(url: str, *statements: str) -> None:
    database = await _opened(url)
    try:
        async with database.writer.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    finally:
        await database.close()


def _fill(url: str) -> None:
    driver = WriterDriver(url)
    top_up = Command(TopUp("ann", 1_000), "admin", "req_1", IdempotencyKey("admin", "t"))
    charge = Command(Charge("ann", 10), "tester", "req_2")
    assert [result.status for result in driver.run([top_up, charge])] == [201, 200]
    assert driver.violations() == []
    driver.close()


@pytest.mark.parametrize("table", ["transactions", "entries"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET amount_nanos = amount_nanos + 1", "DELETE FROM {}"]
)
def test_the_journal_refuses_changes(ledger_url: str, table: str, statement: str) -> None:
    _fill(ledger_url)

    with pytest.raises(DBAPIError, match="append-only"):
        asyncio.run(_execute(ledger_url, statement.format(table)))


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE accounts SET balance_nanos = -1", "ck_accounts_available"),
        ("UPDATE accounts SET held_nanos = balance_nanos + 1", "ck_accounts_available"),
        ("UPDATE lots SET remaining_nanos = granted_nanos + 1", "ck_lots_remaining"),
        ("UPDATE lots SET held_nanos = remaining_nanos + 1", "ck_lots_held"),
    ],
)
def test_constraints_are_the_second_fence(ledger_url: str, statement: str, constraint: str) -> None:
    _fill(ledger_url)

    with pytest.raises(DBAPIError, match=constraint):
        asyncio.run(_execute(ledger_url, statement))


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE accounts SET balance_nanos = balance_nanos + 5", "2 balance"),
        ("UPDATE accounts SET seq = seq + 1", "3 last seq"),
        (
            "UPDATE accounts SET head_hash = (SELECT hash FROM transactions AS t WHERE t.seq = 1)",
            "19 hash chain",
        ),
        ("UPDATE lots SET remaining_nanos = remaining_nanos - 1", "10 lot is granted less used"),
        ("UPDATE transactions SET description = 'forged' WHERE seq = 1", "19 hash chain"),
        ("UPDATE transactions SET balance_after_nanos = 7 WHERE seq = 2", "4 balance_after"),
        ("UPDATE entries SET amount_nanos = 3 WHERE leg = 'revenue'", "1 entries sum to 0"),
        ("DELETE FROM entries WHERE leg = 'revenue'", "1 entries sum to 0"),
        ("UPDATE transactions SET lots = '[]' WHERE seq = 2", "8 first lots first"),
        ("UPDATE transactions SET requested_nanos = 11 WHERE seq = 2", "18 parts of the charge"),
    ],
)
def test_tampering_behind_the_service_is_found(
    ledger_url: str, tampering: str, broken: str
) -> None:
    """Even by somebody who may switch the triggers off."""
    _fill(ledger_url)

    without_triggers = _without_triggers(is_sqlite=ledger_url.startswith("sqlite"))
    asyncio.run(_execute(ledger_url, *without_triggers, tampering))
    driver = WriterDriver(ledger_url)
    violations = driver.violations()
    driver.close()
    assert any(violation.invariant.startswith(broken) for violation in violations), violations


def _without_triggers(*, is_sqlite: bool) -> list[str]:
    if is_sqlite:
        return [
            f"DROP TRIGGER {table}_no_{event}"
            for table in ("transactions", "entries")
            for event in ("update", "delete")
        ]
    return ["SET session_replication_role = replica"]


async def test_the_migrations_make_the_tables_that_the_code_expects(ledger_url: str) -> None:
    database = await _opened(ledger_url)
    try:
        async with database.reader.connect() as connection:
            differences: list[Any] = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
            )
            assert differences == []
            assert await connection.run_sync(is_migrated)
    finally:
        await database.close()
