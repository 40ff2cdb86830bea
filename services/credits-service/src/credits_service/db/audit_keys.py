"""Checks remembered answers: each key has one outcome, and the journal knows of it."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.bulk import member_of, members
from credits_service.db.tables import holds, idempotency_keys, issued_keys, transactions
from credits_service.ledger.violations import Violation, Violations

_MAX_FOUND = 20
_ROWS_PER_STEP = 1000
_FIRST_REFUSAL = 400
# Answers are remembered for a week at least.
_SURELY_KEPT_MICROS = 6 * 86_400 * MICROS_PER_SECOND
_ONE_OUTCOME = "12 one outcome for each key"
_REMEMBERED = "12 a remembered answer is in the ledger"
_FORGOTTEN = "12 an answer is remembered"


class _Body(msgspec.Struct):
    """What tells an answer's kind: a problem has a code, a success names what it is about."""

    transaction_id: str | None = None
    hold_id: str | None = None
    user_id: str | None = None
    key_id: str | None = None
    account: str | None = None
    code: str | None = None
    status: Any = None

    def can_be(self, status: int) -> bool:
        """Whether this can be the body of an answer with that status."""
        if status >= _FIRST_REFUSAL:
            return self.code is not None and self.status == status
        return self.code is None and (self.user_id is not None or self.is_of_key)

    @property
    def is_of_key(self) -> bool:
        """Whether it is about an issued key: that has an account, where others have a user."""
        return self.account is not None and self.key_id is not None


class _Stored(NamedTuple):
    """What remembered answers name, as far as it is there.

    Attributes:
        booked: the idempotency key of each transaction.
        holds: ids of holds.
        keys: ids of issued keys.
    """

    booked: dict[str, tuple[str, str | None]]
    holds: set[str]
    keys: set[str]

    def has(self, mark: tuple[str, str], body: _Body) -> bool:
        """Whether what an answer of success names is there."""
        if body.transaction_id is not None:
            return self.booked.get(body.transaction_id) == mark
        if body.is_of_key:
            return body.key_id in self.keys
        return body.hold_id is None or body.hold_id in self.holds


async def audit_keys(connection: AsyncConnection, violations: Violations) -> None:
    """Check all keys on a connection with an open transaction; note what is wrong."""
    violations.extend(await _doubled(connection))
    async for found in _unfounded(connection):
        violations.extend(found)
    violations.extend(await _forgotten(connection))


async def _doubled(connection: AsyncConnection) -> list[Violation]:
    """Find keys that booked twice while the first answer was surely remembered."""
    key = (transactions.c.principal, transactions.c.idempotency_key)
    booked_at = transactions.c.booked_at_micros
    previous = func.lag(booked_at).over(partition_by=key, order_by=booked_at)
    uses = (
        select(*key, (booked_at - previous).label("pause_micros"))
        .where(transactions.c.idempotency_key.is_not(None))
        .subquery()
    )
    query = (
        select(uses.c.principal, uses.c.idempotency_key)
        .where(uses.c.pause_micros < _SURELY_KEPT_MICROS)
        .limit(_MAX_FOUND)
    )
    return [
        Violation(_ONE_OUTCOME, None, f"key {name} of {principal}: several transactions")
        for principal, name in await connection.execute(query)
    ]


async def _unfounded(connection: AsyncConnection) -> AsyncIterator[list[Violation]]:
    """Find answers of success that name a transaction, hold or key that is not there.

    There may be as many as there are keys: they come some at a time.
    """
    query = select(
        idempotency_keys.c.scope,
        idempotency_keys.c.key,
        idempotency_keys.c.status,
        idempotency_keys.c.body,
    )
    async with connection.stream(query) as result:
        async for partition in result.partitions(_ROWS_PER_STEP):
            yield await _unfounded_of(connection, partition)


async def _unfounded_of(connection: AsyncConnection, remembered: Sequence[Any]) -> list[Violation]:
    bodies: dict[tuple[str, str], _Body] = {}
    wrong: set[tuple[str, str]] = set()
    for scope, key, status, body in remembered:
        try:
            parsed = msgspec.json.decode(body, type=_Body)
        except msgspec.MsgspecError:
            wrong.add((scope, key))
            continue
        if not parsed.can_be(status):
            wrong.add((scope, key))
        elif status < _FIRST_REFUSAL:
            bodies[scope, key] = parsed
    stored = _Stored(
        await _keys_of_transactions(connection, bodies),
        await _existing_holds(connection, bodies),
        await _existing_keys(connection, bodies),
    )
    wrong |= {mark for mark, body in bodies.items() if not stored.has(mark, body)}
    return [
        Violation(_REMEMBERED, None, f"key {key} of {scope}: its answer is not what was booked")
        for scope, key in sorted(wrong)
    ]


async def _keys_of_transactions(
    connection: AsyncConnection, bodies: dict[tuple[str, str], _Body]
) -> dict[str, tuple[str, str | None]]:
    dialect = connection.dialect.name
    ids = {body.transaction_id for body in bodies.values() if body.transaction_id}
    query = select(
        transactions.c.id, transactions.c.principal, transactions.c.idempotency_key
    ).where(member_of(transactions.c.id, "ids", dialect))
    found = await connection.execute(query, {"ids": members(ids, dialect)})
    return {row[0]: (row[1], row[2]) for row in found}


async def _existing_holds(
    connection: AsyncConnection, bodies: dict[tuple[str, str], _Body]
) -> set[str]:
    dialect = connection.dialect.name
    ids = {body.hold_id for body in bodies.values() if body.hold_id and not body.transaction_id}
    query = select(holds.c.id).where(member_of(holds.c.id, "ids", dialect))
    return set(await connection.scalars(query, {"ids": members(ids, dialect)}))


async def _existing_keys(
    connection: AsyncConnection, bodies: dict[tuple[str, str], _Body]
) -> set[str]:
    dialect = connection.dialect.name
    ids = {body.key_id for body in bodies.values() if body.is_of_key and body.key_id}
    query = select(issued_keys.c.id).where(member_of(issued_keys.c.id, "ids", dialect))
    return set(await connection.scalars(query, {"ids": members(ids, dialect)}))


async def _forgotten(connection: AsyncConnection) -> list[Violation]:
    """Find transactions of the last days whose key would be taken for a new one."""
    newest = await connection.scalar(select(func.max(transactions.c.booked_at_micros)))
    query = (
        select(transactions.c.user_id, transactions.c.id, transactions.c.idempotency_key)
        .join_from(
            transactions,
            idempotency_keys,
            (idempotency_keys.c.key == transactions.c.idempotency_key)
            & (idempotency_keys.c.scope == transactions.c.principal),
            isouter=True,
        )
        .where(
            transactions.c.idempotency_key.is_not(None),
            transactions.c.booked_at_micros > (newest or 0) - _SURELY_KEPT_MICROS,
            idempotency_keys.c.key.is_(None),
        )
        .limit(_MAX_FOUND)
    )
    return [
        Violation(_FORGOTTEN, user_id, f"transaction {transaction_id}: key {key}")
        for user_id, transaction_id, key in await connection.execute(query)
    ]
