"""Loads and locks what a batch of commands touches, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from credits_service.db import rows
from credits_service.db.bulk import Row, members
from credits_service.db.load_queries import load_queries
from credits_service.ledger.batch import Command, Loaded
from credits_service.ledger.idempotency import IdempotencyKey, Remembered
from credits_service.ledger.journal import Transaction
from credits_service.ledger.operations import (
    AmendHold,
    Charge,
    PlaceHold,
    Refund,
    ReleaseHold,
    TopUp,
)
from credits_service.ledger.refunds import Refundable, returned_by
from credits_service.ledger.state import AccountState

Clock = Callable[[], int]


class Loader:
    """Loads batches on one engine.

    Args:
        dialect: the engine's name.
        clock: microseconds since 1970; None asks the database, once it holds the locks.
    """

    def __init__(self, dialect: str, clock: Clock | None) -> None:
        self._dialect = dialect
        self._clock = clock
        self._queries = load_queries(dialect)

    def load(self, connection: Connection, commands: Sequence[Command]) -> Loaded:
        """Lock the accounts, then read all else: a duplicate waits here for the first one."""
        named = _named_holds(commands)
        owners = self._owners(connection, named)
        charges = self._charges(connection, commands)
        users = {user for user in _users(commands, owners, charges) if user is not None}
        states, now = self._lock_accounts(connection, users)
        captured = {
            command.operation.hold_id
            for command in commands
            if isinstance(command.operation, Charge) and command.operation.hold_id is not None
        }
        keys = {command.key for command in commands if command.key is not None}
        lots, holds, known = self._queries.rest.read(
            connection,
            users=self._members(set(states)),
            now=now,
            holds=self._members(named | captured),
            scopes=self._members({key.scope for key in keys}),
            keys=self._members({key.key for key in keys}),
        )
        _add_lots_and_holds(states, lots, holds)
        self._add_issued_keys(connection, states, commands)
        return Loaded(
            now_micros=now,
            states=states,
            hold_owners=owners,
            refundables=self._refundables(connection, states, charges),
            remembered={IdempotencyKey(row[0], row[1]): Remembered(*row[2:]) for row in known},
            used_references=self._used_references(connection, commands),
        )

    def accounts_of(self, connection: Connection, commands: Sequence[Command]) -> list[str | None]:
        """Return the account that each command is about; None if there is none."""
        owners = self._owners(connection, _named_holds(commands))
        return _users(commands, owners, self._charges(connection, commands))

    def lock_holders(self, connection: Connection, users: set[str]) -> dict[str, int]:
        """Find which of the accounts other sessions have locked, without waiting for them.

        What is free is locked until the connection's transaction ends.

        Returns:
            the locked accounts, each with the transaction that has it.
        """
        asked = self._members(users)
        free = {row[0] for row in self._queries.free_accounts.read(connection, users=asked)}
        found = self._queries.lock_holders.read(connection, users=asked)
        return {user: holder for user, holder in found if user not in free}

    def now(self, connection: Connection) -> int:
        """Return the moment, by the database's clock: servers' clocks differ."""
        if self._clock is not None:
            return self._clock()
        ((now,),) = self._queries.now.read(connection)
        return int(now)

    def _members(self, values: set[str]) -> Any:
        return members(values, self._dialect)

    def _owners(self, connection: Connection, named: set[str]) -> dict[str, str]:
        if not named:
            return {}
        found = self._queries.hold_owners.read(connection, holds=self._members(named))
        return {row[0]: row[1] for row in found}

    def _charges(
        self, connection: Connection, commands: Sequence[Command]
    ) -> dict[str, Transaction]:
        """Read what is to be refunded: transactions never change, so no lock is needed."""
        ids = {
            command.operation.transaction_id
            for command in commands
            if isinstance(command.operation, Refund)
        }
        if not ids:
            return {}
        found = self._queries.transactions.read(connection, ids=self._members(ids))
        return {row[0]: rows.transaction_from(row) for row in found}

    def _refundables(
        self,
        connection: Connection,
        states: dict[str, AccountState],
        charges: dict[str, Transaction],
    ) -> dict[str, Refundable]:
        """Read earlier refunds of charges, and the lots that credit may return to."""
        if not charges:
            return {}
        ids = self._members(set(charges))
        refunds: dict[str, list[Transaction]] = {transaction_id: [] for transaction_id in charges}
        for row in self._queries.refunds.read(connection, ids=ids):
            refund = rows.transaction_from(row)
            refunds[refund.reverses_id or ""].append(refund)
        used = {use.lot_id for charge in charges.values() for use in charge.lots}
        for row in self._queries.named_lots.read(connection, ids=self._members(used)):
            lot = rows.lot_from(row)
            states[lot.user_id].lots[lot.id] = lot
        return {
            transaction_id: Refundable(charge, returned_by(refunds[transaction_id]))
            for transaction_id, charge in charges.items()
        }

    def _lock_accounts(
        self, connection: Connection, users: set[str]
    ) -> tuple[dict[str, AccountState], int]:
        """Return the accounts, and the moment when the last of them was locked."""
        found = self._queries.accounts.read(connection, users=self._members(users))
        accounts = (rows.account_from(row[:-1]) for row in found)
        states = {account.user_id: AccountState(account) for account in accounts}
        if self._clock is not None or not found:
            return states, self.now(connection)
        return states, max(row[-1] for row in found)

    def _add_issued_keys(
        self,
        connection: Connection,
        states: Mapping[str, AccountState],
        commands: Sequence[Command],
    ) -> None:
        """Read the keys that commands and holds name; what is none, or another's, is left out."""
        named = _named_issued_keys(states, commands)
        if not named:
            return
        for row in self._queries.key_spendings.read(connection, ids=self._members(named)):
            key = rows.key_spending_from(row)
            if key.user_id in states:
                states[key.user_id].keys[key.key_id] = key

    def _used_references(
        self, connection: Connection, commands: Sequence[Command]
    ) -> frozenset[str]:
        wanted = {
            command.operation.reference
            for command in commands
            if isinstance(command.operation, TopUp) and command.operation.reference is not None
        }
        if not wanted:
            return frozenset()
        found = self._queries.references.read(connection, references=self._members(wanted))
        return frozenset(row[0] for row in found)


def _add_lots_and_holds(
    states: dict[str, AccountState], lots: Sequence[Row], holds: Sequence[Row]
) -> None:
    for row in lots:
        lot = rows.lot_from(row)
        states[lot.user_id].lots[lot.id] = lot
    for row in holds:
        hold = rows.hold_from(row)
        # A capture may name a hold of an account that it is not about.
        if hold.user_id in states:
            states[hold.user_id].holds[hold.id] = hold


def _named_issued_keys(states: Mapping[str, AccountState], commands: Sequence[Command]) -> set[str]:
    asked = {
        command.operation.key_id
        for command in commands
        if isinstance(command.operation, Charge | PlaceHold)
    }
    held = {hold.key_id for state in states.values() for hold in state.holds.values()}
    return {key_id for key_id in asked | held if key_id is not None}


def _named_holds(commands: Sequence[Command]) -> set[str]:
    return {
        command.operation.hold_id
        for command in commands
        if isinstance(command.operation, AmendHold | ReleaseHold)
    }


def _users(
    commands: Sequence[Command], owners: Mapping[str, str], charges: Mapping[str, Transaction]
) -> list[str | None]:
    """Return the account that each command is about; None if there is none."""
    users: list[str | None] = []
    for command in commands:
        operation = command.operation
        if isinstance(operation, AmendHold | ReleaseHold):
            users.append(owners.get(operation.hold_id))
        elif isinstance(operation, Refund):
            charge = charges.get(operation.transaction_id)
            users.append(None if charge is None else charge.user_id)
        else:
            users.append(operation.user_id)
    return users
