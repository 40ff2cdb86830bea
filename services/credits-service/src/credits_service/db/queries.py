"""Reading the ledger: on connections of their own, never in the writer's way."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, Select, cast, func, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.errors import LedgerUnavailableError
from credits_service.db import rows
from credits_service.db.bulk import columns_of
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.load import Clock
from credits_service.db.migrate import is_migrated
from credits_service.db.tables import accounts, holds, lots, transactions
from credits_service.ledger.journal import Transaction
from credits_service.ledger.state import Account, AccountState, Hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Item = TypeVar("Item")


class Snapshot(NamedTuple):
    """An account as stored, with live lots and due holds, and the moment of reading it."""

    state: AccountState
    now_micros: int


class LedgerQueries:
    """What can be asked of the ledger."""

    def __init__(self, database: Database, clock: Clock | None) -> None:
        self._database = database
        self._clock = clock

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[AsyncConnection]":
        """Open a connection for reading; a database that is gone is a 503, not a 500."""
        try:
            async with self._database.reader.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            if classify(error) is Failure.UNEXPECTED:
                raise
            raise LedgerUnavailableError from error

    async def is_ready(self) -> bool:
        """Whether the database answers and has the schema that this version expects."""
        async with self.connection() as connection:
            return await connection.run_sync(is_migrated)

    async def has_account(self, user_id: str) -> bool:
        """Whether there is an account of this name."""
        async with self.connection() as connection:
            return (await connection.execute(_account(user_id))).first() is not None

    async def account(self, user_id: str) -> Snapshot | None:
        """Read an account with its live lots and due holds."""
        async with self.connection() as connection:
            found = (await connection.execute(_account(user_id))).first()
            if found is None:
                return None
            now = await self._now(connection)
            return Snapshot(await self._state(connection, rows.account_from(found), now), now)

    async def _state(self, connection: AsyncConnection, account: Account, now: int) -> AccountState:
        live = select(*columns_of(lots, rows.LOT)).where(
            lots.c.user_id == account.user_id, lots.c.remaining_nanos > 0
        )
        due = select(*columns_of(holds, rows.HOLD)).where(
            holds.c.user_id == account.user_id,
            holds.c.status == "active",
            holds.c.expires_at_micros <= now,
        )
        found_lots = map(rows.lot_from, await connection.execute(live))
        found_holds = map(rows.hold_from, await connection.execute(due))
        return AccountState(
            account,
            {lot.id: lot for lot in found_lots},
            {hold.id: hold for hold in found_holds},
        )

    async def hold(self, hold_id: str) -> tuple[Hold, Snapshot] | None:
        """Read a hold and its account."""
        async with self.connection() as connection:
            query = select(*columns_of(holds, rows.HOLD)).where(holds.c.id == hold_id)
            found = (await connection.execute(query)).first()
            if found is None:
                return None
            hold = rows.hold_from(found)
            owner = (await connection.execute(_account(hold.user_id))).one()
            now = await self._now(connection)
            state = await self._state(connection, rows.account_from(owner), now)
            return hold, Snapshot(state, now)

    async def accounts(self, after: str | None, limit: int) -> list[Account]:
        """Read accounts in order of their user ids, from after one of them."""
        query = select(*columns_of(accounts, rows.ACCOUNT)).order_by(accounts.c.user_id)
        if after is not None:
            query = query.where(accounts.c.user_id > after)
        return await self._all(query.limit(limit), rows.account_from)

    async def transactions(
        self, user_id: str, *, cursor: int | None, limit: int, ascending: bool
    ) -> list[Transaction]:
        """Read an account's transactions in order of their numbers, from after a number."""
        seq = transactions.c.seq
        query = select(*columns_of(transactions, rows.TRANSACTION)).where(
            transactions.c.user_id == user_id
        )
        if cursor is not None:
            query = query.where(seq > cursor if ascending else seq < cursor)
        query = query.order_by(seq if ascending else seq.desc()).limit(limit)
        return await self._all(query, rows.transaction_from)

    async def accounts_with_due_holds(self, limit: int) -> list[str]:
        """Name accounts that have holds to settle."""
        async with self.connection() as connection:
            now = await self._now(connection)
            query = (
                select(holds.c.user_id)
                .where(holds.c.status == "active", holds.c.expires_at_micros <= now)
                .distinct()
                .limit(limit)
            )
            return list(await connection.scalars(query))

    async def _all(self, query: Select[Any], read: Callable[[Any], Item]) -> list[Item]:
        async with self.connection() as connection:
            return [read(row) for row in await connection.execute(query)]

    async def _now(self, connection: AsyncConnection) -> int:
        if self._clock is not None:
            return self._clock()
        micros = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
        return int(await connection.scalar(select(micros)) or 0)


def _account(user_id: str) -> Select[Any]:
    return select(*columns_of(accounts, rows.ACCOUNT)).where(accounts.c.user_id == literal(user_id))
