"""Checks what belongs to no account: rows without their parents, the sum of the whole ledger."""

from typing import Any

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db.sums import sum_in_parts, sum_of
from credits_service.db.tables import accounts, entries, issued_keys, key_spending, transactions
from credits_service.ledger.violations import Violation

_MAX_FOUND = 20


async def audit_whole(connection: AsyncConnection) -> list[Violation]:
    """Check the ledger as a whole, on a connection with an open transaction."""
    found = [
        Violation(invariant, user_id, f"{name} {row}")
        for invariant, name, query in _CHECKS
        for user_id, row in await connection.execute(query.limit(_MAX_FOUND))
    ]
    sums = await connection.execute(select(*sum_in_parts(entries.c.amount_nanos)))
    total = sum_of(*sums.one())
    if total:
        found.append(Violation("1 entries sum to 0", None, f"the whole ledger sums to {total}"))
    return found


_CHECKS: tuple[tuple[str, str, Select[Any]], ...] = (
    (
        "1 entries belong to transactions",
        "entry of transaction",
        select(entries.c.user_id, entries.c.transaction_id)
        .join_from(
            entries, transactions, transactions.c.id == entries.c.transaction_id, isouter=True
        )
        .where(transactions.c.id.is_(None)),
    ),
    (
        "3 transactions belong to accounts",
        "transaction",
        select(transactions.c.user_id, func.min(transactions.c.id))
        .join_from(
            transactions, accounts, accounts.c.user_id == transactions.c.user_id, isouter=True
        )
        .where(accounts.c.user_id.is_(None))
        .group_by(transactions.c.user_id),
    ),
    (
        "23 issued keys belong to accounts",
        "key",
        select(issued_keys.c.account, issued_keys.c.id)
        .join_from(issued_keys, accounts, accounts.c.user_id == issued_keys.c.account, isouter=True)
        .where(accounts.c.user_id.is_(None)),
    ),
    (
        "23 each issued key has its counters",
        "key",
        select(issued_keys.c.account, issued_keys.c.id)
        .join_from(
            issued_keys, key_spending, key_spending.c.key_id == issued_keys.c.id, isouter=True
        )
        .where(key_spending.c.key_id.is_(None)),
    ),
    (
        "23 counters belong to issued keys",
        "key",
        select(literal(None), key_spending.c.key_id)
        .join_from(
            key_spending, issued_keys, issued_keys.c.id == key_spending.c.key_id, isouter=True
        )
        .where(issued_keys.c.id.is_(None)),
    ),
    (
        "2 amounts are in USD",
        "account",
        select(accounts.c.user_id, accounts.c.user_id).where(accounts.c.unit != "USD"),
    ),
)
