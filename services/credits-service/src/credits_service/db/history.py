"""Reading the journal in order: each transaction with its entries, in constant memory."""

from collections.abc import AsyncIterator, Collection, Iterable
from operator import itemgetter
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db import rows
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.streams import Row, grouped, streamed
from credits_service.db.tables import accounts, entries, transactions
from credits_service.ledger.journal import Entry, Transaction
from credits_service.ledger.state import Account

_ACCOUNTS_PER_PAGE = 100


async def account_pages(
    connection: AsyncConnection, user_ids: Collection[str] | None = None
) -> AsyncIterator[list[Account]]:
    """Read accounts in order of their user ids, some at a time.

    Args:
        connection: in a transaction that sees one snapshot.
        user_ids: only these; unknown ones are left out.
    """
    query = select(*columns_of(accounts, rows.ACCOUNT))
    parameters: dict[str, Any] = {}
    if user_ids is not None:
        dialect = connection.dialect.name
        query = query.where(member_of(accounts.c.user_id, "wanted", dialect))
        parameters["wanted"] = members(user_ids, dialect)
    query = query.order_by(accounts.c.user_id).limit(_ACCOUNTS_PER_PAGE)
    after = ""
    while True:
        found = await connection.execute(query.where(accounts.c.user_id > after), parameters)
        page = [rows.account_from(row) for row in found]
        if not page:
            return
        yield page
        after = page[-1].user_id


async def history_rows(
    connection: AsyncConnection, user_ids: Iterable[str]
) -> AsyncIterator[tuple[Row, list[Entry]]]:
    """Read the transactions of some accounts, by account and number, each with its entries.

    A transaction is given as its row, which may be one that can't be read. The wallet's leg
    comes first, as it was hashed.
    """
    width = len(rows.TRANSACTION)
    dialect = connection.dialect.name
    query = (
        select(*columns_of(transactions, rows.TRANSACTION), *columns_of(entries, rows.ENTRY))
        .join_from(
            transactions, entries, entries.c.transaction_id == transactions.c.id, isouter=True
        )
        .where(member_of(transactions.c.user_id, "users", dialect))
        .order_by(transactions.c.user_id, transactions.c.seq, entries.c.leg.desc())
    )
    found = streamed(connection, query, {"users": members(user_ids, dialect)})
    async for group in grouped(found, key=itemgetter(0)):
        legs = [Entry(*row[width:]) for row in group if row[width] is not None]
        yield group[0][:width], legs


async def history(
    connection: AsyncConnection, user_ids: Iterable[str]
) -> AsyncIterator[tuple[Transaction, list[Entry]]]:
    """Read the same as transactions."""
    async for row, legs in history_rows(connection, user_ids):
        yield rows.transaction_from(row), legs


async def count_transactions(
    connection: AsyncConnection, user_ids: Collection[str] | None = None
) -> int:
    """Count transactions by the accounts' numbers, which is quick: each counts its own."""
    query = select(func.sum(accounts.c.seq))
    parameters: dict[str, Any] = {}
    if user_ids is not None:
        dialect = connection.dialect.name
        query = query.where(member_of(accounts.c.user_id, "wanted", dialect))
        parameters["wanted"] = members(user_ids, dialect)
    return int(await connection.scalar(query, parameters) or 0)
