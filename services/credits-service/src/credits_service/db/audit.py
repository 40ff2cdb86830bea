"""Checks every invariant over one snapshot of the ledger, a page of accounts at a time.

Memory does not grow with the ledger: rows are streamed in the order in which they are folded.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Table, collate, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db import rows
from credits_service.db.audit_keys import audit_keys
from credits_service.db.audit_whole import audit_whole
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.history import account_pages, count_transactions, history_rows
from credits_service.db.key_spending import key_spendings
from credits_service.db.progress import Report, silent
from credits_service.db.streams import Row, grouped, merged, streamed
from credits_service.db.tables import holds, issued_keys, lots, transactions
from credits_service.ledger.invariants import AccountAudit
from credits_service.ledger.journal import Transaction
from credits_service.ledger.refund_audit import audit_refunds
from credits_service.ledger.state import Account, KeySpending, Lot
from credits_service.ledger.violations import Violation, Violations

_WIDTH = len(rows.TRANSACTION)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, TypeError, ValueError)

Item = TypeVar("Item")


class Audit(NamedTuple):
    """What was checked, and what is wrong.

    Attributes:
        violations: some of each invariant (see `Violations`).
        violations_total: how many were found.
    """

    accounts: int
    transactions: int
    violations: list[Violation]
    violations_total: int


async def audit(
    connection: AsyncConnection,
    user_ids: Collection[str] | None = None,
    report: Report = silent,
) -> Audit:
    """Check a ledger, in the connection's transaction or, if it has none, in one of its own.

    Args:
        connection: to the ledger; a transaction that it has begun must see one snapshot.
        user_ids: only these accounts; None: all of them, and what belongs to none.
        report: is told how far the check has come.
    """
    run = _Run(connection, report)
    if connection.in_transaction():
        await run.check(user_ids)
    else:
        if connection.dialect.name == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await run.check(user_ids)
    found = run.violations
    return Audit(run.accounts, run.transactions, found.found, found.total)


class _Run:
    def __init__(self, connection: AsyncConnection, report: Report) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._report_to = report
        self._total: int | None = None
        self.accounts = 0
        self.transactions = 0
        self.violations = Violations()

    async def check(self, user_ids: Collection[str] | None) -> None:
        self._total = await count_transactions(self._connection, user_ids)
        self._report()
        async for page in account_pages(self._connection, user_ids):
            await self._check_accounts(page)
        if user_ids is None:
            self.violations.extend(await audit_whole(self._connection))
            await audit_keys(self._connection, self.violations)

    async def _check_accounts(self, page: Sequence[Account]) -> None:
        self.accounts += len(page)
        users = {"users": members({a.user_id for a in page}, self._dialect)}
        lots_of: dict[str, list[Lot]] = defaultdict(list)
        query = select(*columns_of(lots, rows.LOT)).where(self._of_users(lots))
        async for row in streamed(self._connection, query, users):
            lot = rows.lot_from(row)
            lots_of[lot.user_id].append(lot)
        keys_of = await self._keys_of(users)
        audits = {a.user_id: AccountAudit(a, lots_of[a.user_id], keys_of[a.user_id]) for a in page}
        await self._check_transactions(audits)
        await self._check_holds(audits, users)
        await self._check_refunds(audits, users)
        for account_audit in audits.values():
            account_audit.finish()
            self.violations.merge(account_audit.violations)
        self._report()

    async def _keys_of(self, users: dict[str, Any]) -> dict[str, list[KeySpending]]:
        found: dict[str, list[KeySpending]] = defaultdict(list)
        query = key_spendings().where(member_of(issued_keys.c.account, "users", self._dialect))
        async for row in streamed(self._connection, query, users):
            key = rows.key_spending_from(row)
            found[key.user_id].append(key)
        return found

    def _report(self) -> None:
        self._report_to("transactions checked", self.transactions, self._total)

    def _of_users(self, table: Table) -> ColumnElement[bool]:
        return member_of(table.c.user_id, "users", self._dialect)

    def _plain(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Order as Python orders text, whatever the database's language."""
        return collate(column, "C") if self._dialect == "postgresql" else column

    def _read(self, read: Callable[[Any], Item], row: Row, name: str) -> Item | None:
        """Read a row; one that can't be read is a violation."""
        try:
            return read(row)
        except _UNREADABLE as error:
            detail = f"{name} {row[0]}: {error}"
            self.violations.add(Violation("rows can be read", row[1], detail))
            return None

    async def _check_transactions(self, audits: dict[str, AccountAudit]) -> None:
        async for row, legs in history_rows(self._connection, audits):
            self.transactions += 1
            if self.transactions % 10_000 == 0:
                self._report()
            transaction = self._read(rows.transaction_from, row, "transaction")
            if transaction is not None:
                audits[transaction.user_id].transaction(transaction, legs)

    async def _check_holds(self, audits: dict[str, AccountAudit], users: dict[str, Any]) -> None:
        """Bring holds together with the charges on them; both come in the order of the holds."""
        holds_query = (
            select(*columns_of(holds, rows.HOLD))
            .where(self._of_users(holds))
            .order_by(self._plain(holds.c.user_id), self._plain(holds.c.id))
        )
        captures_query = (
            select(*columns_of(transactions, rows.TRANSACTION))
            .where(self._of_users(transactions), transactions.c.hold_id.is_not(None))
            .order_by(
                self._plain(transactions.c.user_id),
                self._plain(transactions.c.hold_id),
                transactions.c.seq,
            )
        )
        pairs = merged(
            streamed(self._connection, holds_query, users),
            streamed(self._connection, captures_query, users),
            left_key=lambda row: (row[1], row[0]),
            right_key=lambda row: (row[1], row[rows.TRANSACTION.index("hold_id")]),
        )
        async for found, booked in pairs:
            captures = self._transactions_of(booked)
            account_audit = audits[(found or booked[0])[1]]
            hold = None if found is None else self._read(rows.hold_from, found, "hold")
            if hold is not None:
                account_audit.hold(hold, captures)
            elif found is None:
                for capture in captures:
                    account_audit.violations.require(
                        "11 captures belong to holds", holds=False, transaction=capture
                    )

    def _transactions_of(self, found: Sequence[Row]) -> list[Transaction]:
        """Read transactions; those that can't be read were noted before."""
        read: list[Transaction] = []
        for row in found:
            with suppress(*_UNREADABLE):
                read.append(rows.transaction_from(row))
        return read

    async def _check_refunds(self, audits: dict[str, AccountAudit], users: dict[str, Any]) -> None:
        reversed_rows = transactions.alias()
        query = (
            select(
                *columns_of(transactions, rows.TRANSACTION),
                *(reversed_rows.c[name] for name in rows.TRANSACTION),
            )
            .join_from(
                transactions,
                reversed_rows,
                reversed_rows.c.id == transactions.c.reverses_id,
                isouter=True,
            )
            .where(self._of_users(transactions), transactions.c.reverses_id.is_not(None))
            .order_by(transactions.c.reverses_id, transactions.c.seq)
        )
        key = rows.TRANSACTION.index("reverses_id")
        async for group in grouped(
            streamed(self._connection, query, users), key=lambda row: row[key]
        ):
            refunds = self._transactions_of([row[:_WIDTH] for row in group])
            charges = self._transactions_of([group[0][_WIDTH:]] if group[0][_WIDTH] else [])
            for refund in refunds[:1]:
                audit_refunds(
                    charges[0] if charges else None, refunds, audits[refund.user_id].violations
                )
