"""What an account's journal says of a moment or a period, by look-ups in (user_id, seq).

Within an account moments never run backwards as numbers grow, so the last transaction of a
moment is found by bisection. Transactions never change: a range of numbers that was found once
says the same for ever, whatever is booked meanwhile.
"""

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db import rows
from credits_service.db.bulk import columns_of
from credits_service.db.sums import sum_in_parts, sum_of
from credits_service.db.tables import accounts, transactions
from credits_service.ledger.journal import Transaction


class Span(NamedTuple):
    """Numbers of transactions: from after one number up to another."""

    after_seq: int
    last_seq: int


async def last_seq(connection: AsyncConnection, user_id: str) -> int | None:
    """Return the number of an account's last transaction, or None if there is no account."""
    found = await connection.scalar(select(accounts.c.seq).where(accounts.c.user_id == user_id))
    return None if found is None else int(found)


async def seq_at(connection: AsyncConnection, user_id: str, last: int, at_micros: int) -> int:
    """Return the number of the last transaction booked up to and including a moment, or 0.

    Args:
        connection: in a transaction that sees one snapshot.
        user_id: whose.
        last: the number to search up to.
        at_micros: the moment.
    """
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        if await booked_at(connection, user_id, middle) <= at_micros:
            low = middle
        else:
            high = middle - 1
    return low


async def booked_at(connection: AsyncConnection, user_id: str, seq: int) -> int:
    """Return the moment at which a transaction was booked."""
    query = select(transactions.c.booked_at_micros).where(
        transactions.c.user_id == user_id, transactions.c.seq == seq
    )
    return int((await connection.execute(query)).scalar_one())


async def balance_after(connection: AsyncConnection, user_id: str, seq: int) -> int:
    """Return the balance in nano-USD after a transaction; 0 before the first."""
    if not seq:
        return 0
    query = select(transactions.c.balance_after_nanos).where(
        transactions.c.user_id == user_id, transactions.c.seq == seq
    )
    return int((await connection.execute(query)).scalar_one())


async def span_of(
    connection: AsyncConnection, user_id: str, last: int, from_micros: int, to_micros: int
) -> Span:
    """Return the numbers of what was booked at or after a moment and before another."""
    return Span(
        await seq_at(connection, user_id, last, from_micros - 1),
        await seq_at(connection, user_id, last, to_micros - 1),
    )


async def totals_of(connection: AsyncConnection, user_id: str, span: Span) -> dict[str, int]:
    """Return the sum of amounts in nano-USD for each kind of transaction."""
    seq = transactions.c.seq
    query = (
        select(transactions.c.kind, *sum_in_parts(transactions.c.amount_nanos))
        .where(transactions.c.user_id == user_id, seq > span.after_seq, seq <= span.last_seq)
        .group_by(transactions.c.kind)
    )
    return {kind: sum_of(*parts) for kind, *parts in await connection.execute(query)}


async def page_of(
    connection: AsyncConnection, user_id: str, span: Span, limit: int
) -> list[Transaction]:
    """Read the first transactions of a span, oldest first."""
    seq = transactions.c.seq
    query = (
        select(*columns_of(transactions, rows.TRANSACTION))
        .where(transactions.c.user_id == user_id, seq > span.after_seq, seq <= span.last_seq)
        .order_by(seq)
        .limit(limit)
    )
    return [rows.transaction_from(row) for row in await connection.execute(query)]
