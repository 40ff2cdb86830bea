"""Reading the ledger: on connections of their own, never in the writer's way."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, Select, cast, func, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from credits_service.core.errors import LedgerUnavailableError
from credits_service.db import rows
from credits_service.db.bulk import columns_of
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.key_spending import key_spendings
from credits_service.db.load import Clock
from credits_service.db.migrate import is_migrated
from credits_service.db.periods import last_seq
from credits_service.db.statement_figures import StatementFigures
from credits_service.db.tables import accounts, holds, issued_keys, lots, transactions
from credits_service.ledger.journal import Transaction, TransactionKind
from credits_service.ledger.state import Account, AccountState, Hold
from service_kit.shared_work import SharedWork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Item = TypeVar("Item")

# How many transactions are looked at for one page of those of a kind, which may be rare.
LOOKED_AT_MAX = 20_000
# Written into the statement: for a parameter no partial index would be used.
_IS_ACTIVE = holds.c.status == literal("active", literal_execute=True)


class TransactionsPage(NamedTuple):
    """Some transactions, and the number after which there may be more."""

    items: list[Transaction]
    next_seq: int | None


class Snapshot(NamedTuple):
    """An account as stored, with live lots and due holds, and the moment of reading it."""

    state: AccountState
    now_micros: int


class LedgerQueries:
    """What can be asked of the ledger.

    Attributes:
        statement_figures: what statements say of their periods.
    """

    def __init__(self, database: Database, clock: Clock | None) -> None:
        self._database = database
        self._clock = clock
        self.statement_figures = StatementFigures()
        self._asking_readiness = SharedWork[bool]()

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection for reading; a database that is gone is a 503, not a 500."""
        return self._connection(self._database.reader)

    def audit_connection(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection for reading a whole ledger, whose statements may take long."""
        return self._connection(self._database.auditor)

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine) -> "AsyncIterator[AsyncConnection]":
        try:
            async with engine.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            if classify(error) is Failure.UNEXPECTED:
                raise
            raise LedgerUnavailableError from error

    async def is_ready(self) -> bool:
        """Whether the database answers and has the schema that this version expects."""
        return await self._asking_readiness.run(self._is_ready)

    async def _is_ready(self) -> bool:
        async with self.connection() as connection:
            return await connection.run_sync(is_migrated)

    async def has_account(self, user_id: str) -> bool:
        """Whether there is an account of this name."""
        async with self.connection() as connection:
            return (await connection.execute(_account(user_id))).first() is not None

    async def account(self, user_id: str, key_id: str | None = None) -> Snapshot | None:
        """Read an account with its live lots and due holds, and one of its issued keys."""
        async with self.connection() as connection:
            found = (await connection.execute(_account(user_id))).first()
            if found is None:
                return None
            now = await self.now(connection)
            state = await self._state(connection, rows.account_from(found), now, key_id)
            return Snapshot(state, now)

    async def _state(
        self, connection: AsyncConnection, account: Account, now: int, key_id: str | None
    ) -> AccountState:
        live = select(*columns_of(lots, rows.LOT)).where(
            lots.c.user_id == account.user_id, lots.c.remaining_nanos > 0
        )
        due = select(*columns_of(holds, rows.HOLD)).where(
            holds.c.user_id == account.user_id,
            _IS_ACTIVE,
            holds.c.expires_at_micros <= now,
        )
        found_lots = map(rows.lot_from, await connection.execute(live))
        found_holds = map(rows.hold_from, await connection.execute(due))
        state = AccountState(
            account,
            {lot.id: lot for lot in found_lots},
            {hold.id: hold for hold in found_holds},
        )
        if key_id is not None:
            wanted = key_spendings().where(
                issued_keys.c.id == key_id, issued_keys.c.account == account.user_id
            )
            for row in await connection.execute(wanted):
                state.keys[key_id] = rows.key_spending_from(row)
        return state

    async def hold(self, hold_id: str) -> tuple[Hold, Snapshot] | None:
        """Read a hold, its account, and its issued key if it has one."""
        async with self.connection() as connection:
            query = select(*columns_of(holds, rows.HOLD)).where(holds.c.id == hold_id)
            found = (await connection.execute(query)).first()
            if found is None:
                return None
            hold = rows.hold_from(found)
            owner = (await connection.execute(_account(hold.user_id))).one()
            now = await self.now(connection)
            state = await self._state(connection, rows.account_from(owner), now, hold.key_id)
            return hold, Snapshot(state, now)

    async def accounts(self, after: str | None, limit: int) -> tuple[list[Account], int]:
        """Read accounts in order of their user ids, from after one of them, and the moment."""
        query = select(*columns_of(accounts, rows.ACCOUNT)).order_by(accounts.c.user_id)
        if after is not None:
            query = query.where(accounts.c.user_id > after)
        async with self.connection() as connection:
            found = [rows.account_from(row) for row in await connection.execute(query.limit(limit))]
            return found, await self.now(connection)

    async def transaction(self, transaction_id: str) -> Transaction | None:
        """Read a transaction."""
        query = select(*columns_of(transactions, rows.TRANSACTION)).where(
            transactions.c.id == transaction_id
        )
        found = await self._all(query, rows.transaction_from)
        return found[0] if found else None

    async def transactions(
        self,
        user_id: str,
        *,
        cursor: int | None,
        limit: int,
        ascending: bool,
        kind: TransactionKind | None = None,
    ) -> TransactionsPage | None:
        """Read an account's transactions in order of their numbers, from after a number.

        Returns:
            None, if there is no account of this name.
        """
        seq = transactions.c.seq
        async with self.connection() as connection:
            last = await last_seq(connection, user_id)
            if last is None:
                return None
            first = 1
            if cursor is not None:
                first, last = (cursor + 1, last) if ascending else (1, min(last, cursor - 1))
            low, high = _window(first, last, ascending=ascending, is_filtered=kind is not None)
            query = select(*columns_of(transactions, rows.TRANSACTION)).where(
                transactions.c.user_id == user_id, seq >= low, seq <= high
            )
            if kind is not None:
                query = query.where(transactions.c.kind == kind)
            query = query.order_by(seq if ascending else seq.desc()).limit(limit + 1)
            found = [rows.transaction_from(row) for row in await connection.execute(query)]
        page = found[:limit]
        if len(found) > limit:
            return TransactionsPage(page, page[-1].seq)
        is_end = high >= last if ascending else low <= first
        return TransactionsPage(page, None if is_end else (high if ascending else low))

    async def holds(
        self, user_id: str, *, before: str | None, limit: int, only_active: bool
    ) -> list[Hold] | None:
        """Read an account's holds, newest first, from before one of them.

        Returns:
            None, if there is no account of this name.
        """
        query = select(*columns_of(holds, rows.HOLD)).where(holds.c.user_id == user_id)
        if before is not None:
            query = query.where(holds.c.id < before)
        if only_active:
            query = query.where(_IS_ACTIVE)
        query = query.order_by(holds.c.id.desc()).limit(limit)
        async with self.connection() as connection:
            if await last_seq(connection, user_id) is None:
                return None
            return [rows.hold_from(row) for row in await connection.execute(query)]

    async def accounts_with_due_holds(self, limit: int) -> list[str]:
        """Name accounts that have holds to settle."""
        async with self.connection() as connection:
            now = await self.now(connection)
            query = (
                select(holds.c.user_id)
                .where(_IS_ACTIVE, holds.c.expires_at_micros <= now)
                .distinct()
                .limit(limit)
            )
            return list(await connection.scalars(query))

    async def _all(self, query: Select[Any], read: Callable[[Any], Item]) -> list[Item]:
        async with self.connection() as connection:
            return [read(row) for row in await connection.execute(query)]

    async def now(self, connection: AsyncConnection) -> int:
        """Return the moment, in microseconds since 1970, by the ledger's clock."""
        if self._clock is not None:
            return self._clock()
        micros = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
        return int(await connection.scalar(select(micros)) or 0)


def _window(first: int, last: int, *, ascending: bool, is_filtered: bool) -> tuple[int, int]:
    """Return the numbers that are looked at for one page."""
    if not is_filtered:
        return first, last
    if ascending:
        return first, min(last, first + LOOKED_AT_MAX - 1)
    return max(first, last - LOOKED_AT_MAX + 1), last


def _account(user_id: str) -> Select[Any]:
    return select(*columns_of(accounts, rows.ACCOUNT)).where(accounts.c.user_id == literal(user_id))
