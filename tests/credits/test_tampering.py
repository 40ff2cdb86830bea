"""A row changed, added or deleted behind the service's back: the audit finds it and names it.

Every column of every table is either in `CHANGES`, with a change that must be found, or in
`NOT_TOLD`, with the reason why nothing in the ledger can tell.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from sqlalchemy.exc import DBAPIError

from credits.tampered_ledger import TamperedLedger
from credits_service.db.tables import metadata
from credits_service.ledger.invariants import Violation
from support.ledgers import ENGINES, empty_ledger

_KEYS = {
    "accounts": "user_id",
    "entries": "transaction_id",
    "idempotency_keys": "key",
    "key_spending": "key_id",
}


class Change(NamedTuple):
    """A column's new value in a row of the history, and what must be named if not the row."""

    row: str
    sql: str
    named: str = ""


class Row(NamedTuple):
    """A row of the history, and what a violation must name if not the row."""

    table: str
    name: str
    named: str = ""


# What `History` makes, by name: every kind of transaction, hold and lot, on the account `ann`.
CHANGES: dict[str, list[Change]] = {
    "accounts.user_id": [Change("ann", "'mallory'", "mallory")],
    "accounts.unit": [Change("ann", "'EUR'")],
    "accounts.status": [Change("ann", "'frozen'"), Change("closed", "'open'")],
    "accounts.balance_nanos": [Change("ann", "balance_nanos + 1")],
    "accounts.held_nanos": [Change("ann", "held_nanos - 1")],
    "accounts.shortfall_nanos": [Change("ann", "shortfall_nanos + 1")],
    "accounts.seq": [Change("ann", "seq + 1")],
    "accounts.head_hash": [Change("ann", "(SELECT hash FROM transactions WHERE seq = 1 LIMIT 1)")],
    "accounts.low_balance_nanos": [Change("ann", "1"), Change("closed", "1")],
    "accounts.limit_day_nanos": [Change("ann", "NULL"), Change("closed", "1")],
    "accounts.limit_month_nanos": [Change("ann", "1")],
    "accounts.limit_total_nanos": [Change("ann", "1")],
    "accounts.spent_total_nanos": [Change("ann", "0")],
    "accounts.spent_day_nanos": [Change("ann", "0")],
    "accounts.spent_month_nanos": [Change("ann", "0")],
    "accounts.spent_at_micros": [Change("ann", "0")],
    "lots.id": [Change("paid", "'other'", "other")],
    "lots.user_id": [Change("paid", "'closed'", "ann")],
    "lots.source": [Change("paid", "'promo'")],
    "lots.priority": [Change("paid", "priority + 1"), Change("promo", "200")],
    "lots.granted_nanos": [Change("paid", "granted_nanos + 1")],
    "lots.remaining_nanos": [Change("paid", "remaining_nanos - 1")],
    "lots.held_nanos": [Change("paid", "held_nanos + 1")],
    "lots.expires_at_micros": [Change("paid", "9000000000000000"), Change("promo", "NULL")],
    "lots.created_at_micros": [Change("paid", "created_at_micros - 1")],
    "lots.reference": [Change("paid", "'other'"), Change("promo", "'added'")],
    "holds.id": [Change("captured", "'other'", "other")],
    "holds.user_id": [Change("active", "'closed'", "closed")],
    "holds.status": [
        Change("captured", "'released'"),
        Change("late", "'captured'"),
        Change("lapsed", "'released'"),
    ],
    "holds.amount_nanos": [Change("active", "amount_nanos + 1")],
    "holds.captured_nanos": [Change("captured", "captured_nanos - 1")],
    "holds.progress_nanos": [Change("late", "progress_nanos + 1")],
    "holds.settled_nanos": [Change("lapsed", "settled_nanos + 1"), Change("late", "7")],
    "holds.used_nanos": [Change("captured", "used_nanos + 1")],
    "holds.lots": [Change("active", "'[]'"), Change("active", "'{not json'")],
    "holds.late_captured": [Change("late", "false"), Change("lapsed", "true")],
    "holds.key_id": [
        Change("captured", "NULL", "capture"),
        Change("late", "'other'", "late capture"),
        Change("active", "NULL", "issued key"),
    ],
    "holds.ended_at_micros": [Change("captured", "ended_at_micros + 1")],
    "transactions.id": [Change("charge", "'other'", "other")],
    "transactions.user_id": [Change("late capture", "'closed'")],
    "transactions.seq": [Change("charge", "1000", "seq 1000")],
    "transactions.kind": [Change("charge", "'lot_expiry'"), Change("forfeiture", "'charge'")],
    "transactions.amount_nanos": [Change("charge", "amount_nanos - 1")],
    "transactions.balance_after_nanos": [Change("charge", "balance_after_nanos + 1")],
    "transactions.held_after_nanos": [Change("charge", "held_after_nanos + 1")],
    "transactions.booked_at_micros": [Change("charge", "booked_at_micros + 1")],
    "transactions.description": [Change("charge", "'forged'")],
    "transactions.lots": [
        Change("charge", "'[]'"),
        Change("charge", "'{not json'"),
        Change("refund", "'[]'"),
    ],
    "transactions.requested_nanos": [Change("charge", "requested_nanos + 1")],
    "transactions.settled_before_nanos": [Change("charge", "settled_before_nanos + 1")],
    "transactions.shortfall_nanos": [Change("charge", "shortfall_nanos + 1")],
    "transactions.hold_id": [Change("capture", "NULL"), Change("charge", "'other'")],
    "transactions.reverses_id": [Change("refund", "NULL"), Change("refund", "'other'")],
    "transactions.usage": [Change("charge", "'{}'"), Change("charge", "'{not json'")],
    "transactions.price": [Change("charge", "'{}'"), Change("charge", "'{not json'")],
    "transactions.metadata": [Change("charge", "'{}'"), Change("charge", "'{not json'")],
    "transactions.exact_cost_picos": [Change("charge", "'1'"), Change("charge", "'many'")],
    "transactions.principal": [Change("charge", "'mallory'")],
    "transactions.request_id": [Change("charge", "'other'")],
    "transactions.idempotency_key": [Change("charge", "'other'"), Change("charge", "NULL")],
    "transactions.details": [
        Change("topup", "NULL"),
        Change("topup", "'{not json'"),
        Change("capture", "'{not json'"),
        Change("change", "'{not json'"),
        Change("change", '\'{"status":"frozen"}\''),
        Change("charge with key", "NULL"),
        Change("charge with key", '\'{"key_id":"other"}\''),
    ],
    "transactions.hash": [
        Change("charge", "(SELECT head_hash FROM accounts WHERE user_id = 'ann')")
    ],
    "issued_keys.id": [Change("issued key", "'other'", "other")],
    "issued_keys.account": [
        Change("issued key", "'closed'"),
        Change("issued key", "'mallory'", "mallory"),
    ],
    "key_spending.key_id": [Change("issued key", "'other'", "other")],
    "key_spending.held_nanos": [Change("issued key", "held_nanos - 1")],
    "key_spending.spent_total_nanos": [Change("issued key", "spent_total_nanos - 1")],
    "key_spending.spent_day_nanos": [Change("issued key", "0")],
    "key_spending.spent_month_nanos": [Change("issued key", "spent_month_nanos + 1")],
    "key_spending.spent_at_micros": [Change("issued key", "0")],
    "entries.transaction_id": [Change("charge", "'other'", "charge")],
    "entries.leg": [Change("charge revenue", "'breakage'", "charge")],
    "entries.user_id": [Change("charge revenue", "'closed'", "charge")],
    "entries.amount_nanos": [Change("charge revenue", "amount_nanos + 1", "charge")],
    "idempotency_keys.key": [Change("key of charge", "'other'", "other")],
    "idempotency_keys.scope": [Change("key of charge", "'other'", "key of charge")],
    "idempotency_keys.status": [Change("key of charge", "402"), Change("key of refused", "200")],
    "idempotency_keys.body": [
        Change("key of charge", "CAST('{not json' AS BLOB)"),
        Change("key of charge", "CAST('{}' AS BLOB)"),
        Change("key of topup", "(SELECT body FROM idempotency_keys WHERE key = 'charge')"),
    ],
}

# What nothing else in the ledger depends upon, and that takes or gives nobody credit.
NOT_TOLD: dict[str, str] = {
    "accounts.created_at_micros": "when an account was opened is told by its first top-up",
    "accounts.updated_at_micros": "holds move it, and they are not in the journal",
    "holds.request_ref": "the caller's own note; no transaction repeats it",
    "holds.created_at_micros": "a hold that was not charged yet is not in the journal",
    "holds.updated_at_micros": "progress reports move it, and they are not in the journal",
    "holds.expires_at_micros": "extending a hold is not in the journal",
    "idempotency_keys.fingerprint": "of the request, which is not kept",
    "idempotency_keys.created_at_micros": "says only when the key may be forgotten",
    **{
        f"webhook_events.{column.name}": "news for others, deleted after delivery; no credit"
        for column in metadata.tables["webhook_events"].columns
    },
    **{
        f"{name}.{column.name}": "who may ask, and how much; not who has paid what"
        for name in ("issued_keys", "key_secrets", "key_events")
        for column in metadata.tables[name].columns
        if f"{name}.{column.name}" not in {"issued_keys.id", "issued_keys.account"}
    },
}


@pytest.fixture(scope="module", params=ENGINES)
def tampered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TamperedLedger]:
    with empty_ledger(request.param, tmp_path_factory.mktemp("ledger")) as url:
        found = TamperedLedger(url)
        yield found
        found.close()


def _where(tampered: TamperedLedger, table: str, row: str) -> str:
    """Return the condition that picks a row of the history."""
    name, _, leg = row.partition(" ") if table == "entries" else (row, "", "")
    only = f" AND leg = '{leg}'" if leg else ""
    return f"WHERE {_KEYS.get(table, 'id')} = '{tampered.history.rows[name]}'{only}"


def _names(tampered: TamperedLedger, change: Change) -> str:
    name = change.named or change.row
    return tampered.history.rows.get(name, name)


def _is_named(violations: list[Violation], name: str) -> bool:
    return any(
        name == found.user_id or name in f"{found.invariant} {found.detail}" for found in violations
    )


def _rows(rows: Sequence[Row]) -> list[Any]:
    return [pytest.param(row, id="-".join(row)) for row in rows]


def _cases() -> list[Any]:
    return [
        pytest.param(
            column,
            change,
            id=f"{column}-{change.row}-{number}",
        )
        for column, changes in CHANGES.items()
        for number, change in enumerate(changes)
    ]


@pytest.mark.parametrize(("column", "change"), _cases())
def test_a_changed_column_is_found(tampered: TamperedLedger, column: str, change: Change) -> None:
    table, name = column.split(".")
    new = change.sql
    if not tampered.is_sqlite:
        new = new.replace("AS BLOB", "AS BYTEA")
    statement = f"UPDATE {table} SET {name} = {new} {_where(tampered, table, change.row)}"  # noqa: S608 - names of this file

    violations = tampered.violations([statement])

    assert violations, statement
    assert _is_named(violations, _names(tampered, change)), violations


_DELETED = [
    Row("accounts", "ann", "ann"),
    Row("lots", "paid", "ann"),
    Row("lots", "promo", "charge"),
    Row("holds", "active", "ann"),
    Row("holds", "captured", "capture"),
    Row("transactions", "charge", "ann"),
    Row("transactions", "refund", "ann"),
    Row("transactions", "change", "ann"),
    Row("entries", "charge revenue", "charge"),
    Row("entries", "charge wallet", "charge"),
    Row("idempotency_keys", "key of charge"),
    Row("issued_keys", "issued key"),
    Row("key_spending", "issued key"),
]


@pytest.mark.parametrize("row", _rows(_DELETED))
def test_a_deleted_row_is_found(tampered: TamperedLedger, row: Row) -> None:
    statement = f"DELETE FROM {row.table} {_where(tampered, row.table, row.name)}"  # noqa: S608 - names of this file

    violations = tampered.violations([statement])

    name = row.named or row.name
    assert _is_named(violations, tampered.history.rows.get(name, name)), violations


_ADDED = [
    Row("accounts", "ann"),
    Row("lots", "paid"),
    # Which of the two is the copy, nothing tells; what they reserve is too much for the account.
    Row("holds", "active", "ann"),
    Row("transactions", "topup"),
    Row("entries", "charge revenue"),
    Row("idempotency_keys", "key of charge"),
    Row("issued_keys", "issued key"),
    Row("key_spending", "issued key"),
]


@pytest.mark.parametrize("row", _rows(_ADDED))
def test_an_added_row_is_found(tampered: TamperedLedger, row: Row) -> None:
    """A copy of a row under another identity."""
    columns = [column.name for column in metadata.tables[row.table].columns]
    other = {_KEYS.get(row.table, "id"): "'added'", "reference": "NULL", "seq": "1000"}
    values = ", ".join(other.get(name, name) for name in columns)
    statement = (
        f"INSERT INTO {row.table} ({', '.join(columns)}) "  # noqa: S608 - names of this file
        f"SELECT {values} FROM {row.table} {_where(tampered, row.table, row.name)}"
    )

    name = row.named or "added"
    assert _is_named(tampered.violations([statement]), tampered.history.rows.get(name, name))


@pytest.mark.parametrize("table", ["transactions", "entries"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET amount_nanos = 1", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
)
def test_the_journal_refuses_changes(tampered: TamperedLedger, table: str, statement: str) -> None:
    """As long as nobody switches the triggers off."""
    if statement.startswith("TRUNCATE") and tampered.is_sqlite:
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(DBAPIError, match="append-only"):
        tampered.run(statement.format(table))


def test_nothing_is_found_where_nothing_was_changed(tampered: TamperedLedger) -> None:
    assert tampered.violations([]) == []


def test_every_column_is_in_one_of_the_two_lists() -> None:
    columns = {
        f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.c
    }
    assert CHANGES.keys() | NOT_TOLD.keys() == columns
    assert not CHANGES.keys() & NOT_TOLD.keys()
