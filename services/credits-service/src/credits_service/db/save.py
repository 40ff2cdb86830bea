"""Writes back what a batch changed, set-based: a few statements however large it is."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Table

from credits_service.db import rows
from credits_service.db.bulk import Row, insert_rows, update_rows
from credits_service.db.tables import (
    accounts,
    entries,
    holds,
    idempotency_keys,
    key_spending,
    lots,
    transactions,
    webhook_events,
)
from credits_service.ledger.batch import Loaded, Outcome
from credits_service.ledger.state import AccountState

_Pick = Callable[[AccountState], Mapping[str, msgspec.Struct]]


def save(connection: Connection, loaded: Loaded, outcome: Outcome) -> None:
    """Write the difference between what was loaded and what came out."""
    before, after = loaded.states, outcome.states
    _write_changes(
        connection,
        accounts,
        (rows.ACCOUNT, rows.ACCOUNT_CHANGES),
        {user_id: state.account for user_id, state in before.items()},
        {user_id: state.account for user_id, state in after.items()},
    )
    for table, names, pick in (
        (lots, (rows.LOT, rows.LOT_CHANGES), _lots_of),
        (holds, (rows.HOLD, rows.HOLD_CHANGES), _holds_of),
        (key_spending, (rows.KEY_SPENDING, rows.KEY_SPENDING_CHANGES), _keys_of),
    ):
        _write_changes(connection, table, names, _all(before, pick), _all(after, pick))
    journal = outcome.journal
    insert_rows(
        connection,
        transactions,
        rows.TRANSACTION,
        [rows.transaction_row(transaction) for transaction in journal.transactions],
    )
    insert_rows(
        connection,
        entries,
        rows.ENTRY,
        [msgspec.structs.astuple(entry) for entry in journal.entries],
    )
    insert_rows(connection, webhook_events, rows.EVENT, list(journal.event_log.events))
    # Sorted, so that processes that meet the same keys take them in one order.
    insert_rows(
        connection,
        idempotency_keys,
        rows.IDEMPOTENCY_KEY,
        [
            (*key, *remembered, loaded.now_micros)
            for key, remembered in sorted(outcome.remembered.items())
        ],
    )


def _lots_of(state: AccountState) -> Mapping[str, msgspec.Struct]:
    return state.lots


def _holds_of(state: AccountState) -> Mapping[str, msgspec.Struct]:
    return state.holds


def _keys_of(state: AccountState) -> Mapping[str, msgspec.Struct]:
    return state.keys


def _all(states: Mapping[str, AccountState], pick: _Pick) -> dict[str, msgspec.Struct]:
    return {key: value for state in states.values() for key, value in pick(state).items()}


def _write_changes(
    connection: Connection,
    table: Table,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Insert what is new and update what is different."""
    all_names, changing_names = names
    new: list[Row] = []
    changed: list[Row] = []
    # Sorted, so that processes that make the same accounts take them in one order.
    for key, value in sorted(after.items()):
        old = before.get(key)
        if old is None:
            new.append(rows.to_row(value, all_names))
        elif old != value:
            changed.append(rows.to_row(value, changing_names))
    insert_rows(connection, table, all_names, new)
    update_rows(connection, table, changing_names, changed)
