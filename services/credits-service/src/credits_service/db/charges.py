"""Charges as they were booked, for setting them against other books; in constant memory."""

from collections.abc import AsyncIterator, Collection
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.ids import lowest_id
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.streams import streamed
from credits_service.db.tables import transactions
from credits_service.reconciliation.ledger_charges import COLUMNS, LedgerCharge, charge_of
from credits_service.reconciliation.period import Period


def _charges() -> Select[Any]:
    return select(*columns_of(transactions, COLUMNS)).where(transactions.c.kind == "charge")


async def charges_of_period(
    connection: AsyncConnection, period: Period
) -> AsyncIterator[LedgerCharge]:
    """Read the charges of a period, of all accounts.

    There is no index on the moment, but identifiers grow with time: the primary key's serves.
    """
    query = _charges().where(
        transactions.c.id >= lowest_id(period.from_micros),
        transactions.c.id < lowest_id(period.to_micros),
    )
    async for row in streamed(connection, query, {}):
        yield charge_of(dict(zip(COLUMNS, row, strict=True)))


async def charges_with_ids(
    connection: AsyncConnection, transaction_ids: Collection[str]
) -> list[LedgerCharge]:
    """Read the charges that have one of these ids, whenever they were booked."""
    dialect = connection.dialect.name
    query = _charges().where(member_of(transactions.c.id, "wanted", dialect))
    found = await connection.execute(query, {"wanted": members(transaction_ids, dialect)})
    return [charge_of(dict(zip(COLUMNS, row, strict=True))) for row in found]
