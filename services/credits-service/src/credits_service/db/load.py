"""Loads and locks what a batch of commands touches, and nothing else."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Executable,
    Select,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    union,
)

from credits_service.db import rows
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.tables import accounts, holds, idempotency_keys, lots
from credits_service.ledger.batch import Command, Loaded
from credits_service.ledger.idempotency import IdempotencyKey, Remembered
from credits_service.ledger.operations import AmendHold, Charge, ReleaseHold, TopUp
from credits_service.ledger.state import AccountState

Clock = Callable[[], int]


class Statements(NamedTuple):
    """The statements of loading, made once for an engine."""

    hold_owners: Executable
    accounts: Executable
    now: Executable
    keys: Executable
    lots: Executable
    holds: Executable
    references: Executable


def statements(dialect: str) -> Statements:
    """Write the statements for an engine."""
    hold_columns = columns_of(holds, rows.HOLD)
    due: Select[Any] = select(*hold_columns).where(
        # Written out: a plan made for any status could not use the index of the active ones.
        holds.c.status == literal_column("'active'"),
        holds.c.expires_at_micros <= bindparam("now"),
        member_of(holds.c.user_id, "users", dialect),
    )
    named = select(*hold_columns).where(member_of(holds.c.id, "holds", dialect))
    now = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
    return Statements(
        hold_owners=select(holds.c.id, holds.c.user_id).where(
            member_of(holds.c.id, "holds", dialect)
        ),
        # Always in one order, whatever the process, so that none waits for another in a circle.
        accounts=select(*columns_of(accounts, rows.ACCOUNT))
        .where(member_of(accounts.c.user_id, "users", dialect))
        .order_by(accounts.c.user_id)
        .with_for_update(),
        now=select(now),
        keys=select(
            idempotency_keys.c.scope,
            idempotency_keys.c.key,
            idempotency_keys.c.fingerprint,
            idempotency_keys.c.status,
            idempotency_keys.c.body,
        ).where(
            member_of(idempotency_keys.c.scope, "scopes", dialect),
            member_of(idempotency_keys.c.key, "keys", dialect),
        ),
        lots=select(*columns_of(lots, rows.LOT)).where(
            member_of(lots.c.user_id, "users", dialect),
            lots.c.remaining_nanos > literal_column("0"),
        ),
        holds=union(due, named),
        references=select(lots.c.reference).where(
            member_of(lots.c.reference, "references", dialect)
        ),
    )


class Loader:
    """Loads batches on one engine.

    Args:
        dialect: the engine's name.
        clock: microseconds since 1970; None asks the database, once it holds the locks.
    """

    def __init__(self, dialect: str, clock: Clock | None) -> None:
        self._dialect = dialect
        self._clock = clock
        self._statements = statements(dialect)

    def load(self, connection: Connection, commands: Sequence[Command]) -> Loaded:
        """Lock the accounts, then read all else: a duplicate waits here for the first one."""
        named = {
            command.operation.hold_id
            for command in commands
            if isinstance(command.operation, AmendHold | ReleaseHold)
        }
        owners = self._owners(connection, named)
        users = {
            command.operation.user_id
            for command in commands
            if not isinstance(command.operation, AmendHold | ReleaseHold)
        } | set(owners.values())
        states = self._lock_accounts(connection, users)
        now = self.now(connection)
        self._add_lots_and_holds(connection, states, named, commands, now)
        return Loaded(
            now_micros=now,
            states=states,
            hold_owners=owners,
            remembered=self._remembered(connection, commands),
            used_references=self._used_references(connection, commands),
        )

    def now(self, connection: Connection) -> int:
        """Return the moment, by the database's clock: servers' clocks differ."""
        if self._clock is not None:
            return self._clock()
        return int(connection.scalar(self._statements.now))

    def _members(self, values: set[str]) -> Any:
        return members(values, self._dialect)

    def _owners(self, connection: Connection, named: set[str]) -> dict[str, str]:
        if not named:
            return {}
        found = connection.execute(self._statements.hold_owners, {"holds": self._members(named)})
        return {row[0]: row[1] for row in found}

    def _lock_accounts(self, connection: Connection, users: set[str]) -> dict[str, AccountState]:
        found = connection.execute(self._statements.accounts, {"users": self._members(users)})
        accounts_found = map(rows.account_from, found)
        return {account.user_id: AccountState(account) for account in accounts_found}

    def _add_lots_and_holds(
        self,
        connection: Connection,
        states: dict[str, AccountState],
        named: set[str],
        commands: Sequence[Command],
        now: int,
    ) -> None:
        if not states:
            return
        captured = {
            command.operation.hold_id
            for command in commands
            if isinstance(command.operation, Charge) and command.operation.hold_id is not None
        }
        users = self._members(set(states))
        for row in connection.execute(self._statements.lots, {"users": users}):
            lot = rows.lot_from(row)
            states[lot.user_id].lots[lot.id] = lot
        wanted = {"users": users, "holds": self._members(named | captured), "now": now}
        for row in connection.execute(self._statements.holds, wanted):
            hold = rows.hold_from(row)
            # A capture may name a hold of an account that it is not about.
            if hold.user_id in states:
                states[hold.user_id].holds[hold.id] = hold

    def _remembered(
        self, connection: Connection, commands: Sequence[Command]
    ) -> dict[IdempotencyKey, Remembered]:
        keys = {command.key for command in commands if command.key is not None}
        if not keys:
            return {}
        found = connection.execute(
            self._statements.keys,
            {
                "scopes": self._members({key.scope for key in keys}),
                "keys": self._members({key.key for key in keys}),
            },
        )
        return {IdempotencyKey(row[0], row[1]): Remembered(*row[2:]) for row in found}

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
        found = connection.execute(
            self._statements.references, {"references": self._members(wanted)}
        )
        return frozenset(row[0] for row in found)
