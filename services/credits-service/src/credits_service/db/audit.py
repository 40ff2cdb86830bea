"""Checks every invariant over one snapshot of the ledger, a page of accounts at a time."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db import rows
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.tables import accounts, entries, holds, lots, transactions
from credits_service.ledger.invariants import AccountAudit, Violation
from credits_service.ledger.journal import Entry
from credits_service.ledger.state import Account, Hold, Lot

_ACCOUNTS_PER_PAGE = 100
_MAX_DUPLICATES = 20


class Audit(NamedTuple):
    """What was checked, and what is wrong."""

    accounts: int
    transactions: int
    violations: list[Violation]


async def audit(connection: AsyncConnection) -> Audit:
    """Check the whole ledger on a connection that has no transaction yet."""
    if connection.dialect.name == "postgresql":
        await connection.execution_options(isolation_level="REPEATABLE READ")
    run = _Run(connection)
    async with connection.begin():
        await run.check()
    return Audit(run.accounts, run.transactions, run.violations)


class _Run:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.accounts = 0
        self.transactions = 0
        self._entries = 0
        self.violations: list[Violation] = []

    async def check(self) -> None:
        after = ""
        while page := await self._page(after):
            await self._check_accounts(page)
            after = page[-1].user_id
        await self._check_totals()

    async def _page(self, after: str) -> list[Account]:
        query = (
            select(*columns_of(accounts, rows.ACCOUNT))
            .where(accounts.c.user_id > after)
            .order_by(accounts.c.user_id)
            .limit(_ACCOUNTS_PER_PAGE)
        )
        return [rows.account_from(row) for row in await self._connection.execute(query)]

    async def _check_accounts(self, page: Sequence[Account]) -> None:
        self.accounts += len(page)
        users = {"users": members({a.user_id for a in page}, self._connection.dialect.name)}
        lots_of: dict[str, list[Lot]] = defaultdict(list)
        async for row in self._stream(lots, rows.LOT, users):
            lot = rows.lot_from(row)
            lots_of[lot.user_id].append(lot)
        audits = {a.user_id: AccountAudit(a, lots_of[a.user_id]) for a in page}
        await self._check_transactions(audits, users)
        async for row in self._stream(holds, rows.HOLD, users):
            hold: Hold = rows.hold_from(row)
            audits[hold.user_id].hold(hold)
        for account_audit in audits.values():
            self.violations += account_audit.finish()

    async def _stream(
        self, table: Table, names: tuple[str, ...], users: dict[str, Any]
    ) -> AsyncIterator[Any]:
        query = select(*columns_of(table, names)).where(
            member_of(table.c.user_id, "users", self._connection.dialect.name)
        )
        async with self._connection.stream(query, users) as result:
            async for row in result:
                yield row

    async def _check_transactions(
        self, audits: dict[str, AccountAudit], users: dict[str, Any]
    ) -> None:
        width = len(rows.TRANSACTION)
        query = (
            select(*columns_of(transactions, rows.TRANSACTION), *columns_of(entries, rows.ENTRY))
            .join_from(
                transactions, entries, entries.c.transaction_id == transactions.c.id, isouter=True
            )
            .where(member_of(transactions.c.user_id, "users", self._connection.dialect.name))
            # The wallet's leg first, as it was hashed.
            .order_by(transactions.c.user_id, transactions.c.seq, entries.c.leg.desc())
        )
        async with self._connection.stream(query, users) as result:
            async for partition in _by_transaction(result.partitions(1000)):
                transaction = rows.transaction_from(partition[0][:width])
                legs = [Entry(*row[width:]) for row in partition if row[width] is not None]
                self.transactions += 1
                self._entries += len(legs)
                audits[transaction.user_id].transaction(transaction, legs)

    async def _check_totals(self) -> None:
        """Check what belongs to no account, and what one key must not do twice."""
        stored = await self._connection.scalar(select(func.count()).select_from(entries))
        if stored != self._entries:
            detail = f"{stored} entries, {self._entries} belong to transactions"
            self.violations.append(Violation("1 entries belong to transactions", None, detail))
        booked = await self._connection.scalar(select(func.count()).select_from(transactions))
        if booked != self.transactions:
            detail = f"{booked} transactions, {self.transactions} belong to accounts"
            self.violations.append(Violation("3 transactions belong to accounts", None, detail))
        key = (transactions.c.principal, transactions.c.idempotency_key)
        doubled = (
            select(*key)
            .where(transactions.c.idempotency_key.is_not(None))
            .group_by(*key)
            .having(func.count() > 1)
            .limit(_MAX_DUPLICATES)
        )
        self.violations += [
            Violation("12 one outcome for each key", None, f"{principal}: {name}")
            for principal, name in await self._connection.execute(doubled)
        ]


async def _by_transaction(partitions: AsyncIterator[Sequence[Any]]) -> AsyncIterator[list[Any]]:
    """Group rows by their first column, across partitions."""
    open_group: list[Any] = []
    async for partition in partitions:
        for _key, group in groupby(partition, key=itemgetter(0)):
            found = list(group)
            if open_group and open_group[0][0] != found[0][0]:
                yield open_group
                open_group = []
            open_group += found
    if open_group:
        yield open_group
