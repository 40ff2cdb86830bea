"""A ledger that an older version wrote is taken over whole."""

from itertools import groupby
from typing import Any

import msgspec
from alembic import command
from sqlalchemy import Connection, MetaData, Table, insert, select, text

from credits.drivers import RulesDriver
from credits_service.db import rows
from credits_service.db.audit import audit
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import config_for, migrate
from credits_service.db.tables import accounts
from credits_service.ledger.batch import Command
from credits_service.ledger.journal import Transaction, chain_hash
from credits_service.ledger.operations import Charge, PlaceHold, TopUp
from credits_service.ledger.state import GENESIS_HASH

_DAY_MICROS = 86_400_000_000


def _history() -> RulesDriver:
    """Charges of two months, on two accounts, one of them with a hold."""
    driver = RulesDriver()
    for number, user_id in enumerate(("ann", "bob")):
        driver.run([Command(TopUp(user_id, 1_000, reference=f"pay-{number}"), "admin", "r")])
    for amount, pause_days in ((5, 0), (7, 40), (11, 1), (13, 0)):
        driver.clock.micros += pause_days * _DAY_MICROS
        driver.run([Command(Charge("ann", amount), "svc", "r")])
    (placed,) = driver.run([Command(PlaceHold("bob", 100, 60_000_000), "svc", "r")])
    hold_id = msgspec.json.decode(placed.body)["hold_id"]
    driver.run([Command(Charge("bob", 30, hold_id=hold_id), "svc", "r")])
    return driver


def _as_before(driver: RulesDriver) -> list[Transaction]:
    """Write the history as it was written before transactions had details."""
    old: list[Transaction] = []
    for user_id, booked in groupby(
        sorted(driver.transactions, key=lambda t: (t.user_id, t.seq)), key=lambda t: t.user_id
    ):
        head = GENESIS_HASH
        for transaction in booked:
            plain = msgspec.structs.replace(transaction, details=None)
            head = chain_hash(head, plain, driver.entries[transaction.id])
            old.append(msgspec.structs.replace(plain, hash=head))
        driver.states[user_id].account.head_hash = head
    return old


def _write(connection: Connection, driver: RulesDriver) -> None:
    """Make the tables of the first version, and fill them."""
    command.upgrade(config_for(connection), "0001")
    old = MetaData()
    old.reflect(connection)

    def fill(table: str, values: list[msgspec.Struct]) -> None:
        columns = old.tables[table].columns.keys()
        connection.execute(
            insert(Table(table, old)),
            [_row(value, columns) for value in values],
        )

    before = _as_before(driver)
    states = driver.states.values()
    fill("accounts", [state.account for state in states])
    fill("lots", list(driver.all_lots.values()))
    fill("holds", [hold for state in states for hold in state.holds.values()])
    fill("transactions", list(before))
    fill("entries", [entry for legs in driver.entries.values() for entry in legs])


def _row(value: msgspec.Struct, columns: list[str]) -> dict[str, Any]:
    names = tuple(name for name in columns if name in value.__struct_fields__)
    return dict(zip(names, rows.to_row(value, names), strict=True))


async def test_an_older_ledger_is_sound_and_counted_after_the_upgrade(ledger_url: str) -> None:
    driver = _history()
    database = open_database(database_url(ledger_url), DatabaseLimits())
    try:
        async with database.writer.begin() as connection:
            await connection.run_sync(_write, driver)

        await migrate(database.writer)

        async with database.reader.connect() as connection:
            assert (await audit(connection)).violations == []
        async with database.reader.connect() as connection:
            query = select(
                accounts.c.spent_total_nanos,
                accounts.c.spent_month_nanos,
                accounts.c.spent_day_nanos,
            ).order_by(accounts.c.user_id)
            assert [tuple(row) for row in await connection.execute(query)] == [
                (36, 31, 24),
                (30, 30, 30),
            ]
            kinds = await connection.scalars(text("SELECT DISTINCT kind FROM transactions"))
            assert set(kinds) == {"topup", "charge"}
    finally:
        await database.close()
