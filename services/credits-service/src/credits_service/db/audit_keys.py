"""Checks remembered answers: each key has one outcome, and the journal knows of it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.bulk import member_of, members
from credits_service.db.tables import holds, idempotency_keys, transactions
from credits_service.ledger.violations import Violation

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
    code: str | None = None
    status: Any = None

    def can_be(self, status: int) -> bool:
        """Whether this can be the body of an answer with that status."""
        if status >= _FIRST_REFUSAL:
            return self.code is not None and self.status == status
        return self.code is None and self.user_id is not None


async def audit_keys(connection: AsyncConnection) -> list[Violation]:
    """Check all keys on a connection with an open transaction."""
    return [
        *await _doubled(connection),
        *await _unfounded(connection),
        *await _forgotten(connection),
    ]


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


async def _unfounded(connection: AsyncConnection) -> list[Violation]:
    """Find answers of success that name a transaction or hold that is not there."""
    found: list[Violation] = []
    query = select(
        idempotency_keys.c.scope,
        idempotency_keys.c.key,
        idempotency_keys.c.status,
        idempotency_keys.c.body,
    )
    async with connection.stream(query) as result:
        async for partition in result.partitions(_ROWS_PER_STEP):
            found += await _unfounded_of(connection, partition)
    return found


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
    booked = await _keys_of_transactions(connection, bodies)
    placed = await _existing_holds(connection, bodies)
    for mark, body in bodies.items():
        if body.transaction_id is not None:
            if booked.get(body.transaction_id) != mark:
                wrong.add(mark)
        elif body.hold_id is not None and body.hold_id not in placed:
            wrong.add(mark)
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
