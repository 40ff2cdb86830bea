"""What the ledger is compared with: a transaction for each charge, by the book, with an ORM.

SELECT … FOR UPDATE, UPDATE, INSERT, COMMIT. Balance and one entry; no idempotency, no lots, no
hash chain: far less than the ledger's rules do for each charge.
"""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, event, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# More connections than this make PostgreSQL slower on one row; SQLite has one writer anyway.
_POSTGRESQL_CONNECTIONS = 16


class Base(DeclarativeBase):
    """Base of the tables."""


class Account(Base):
    """An account with its balance."""

    __tablename__ = "plain_accounts"
    user_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    balance_nanos: Mapped[int] = mapped_column(BigInteger)


class Entry(Base):
    """A charge."""

    __tablename__ = "plain_entries"
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(BigInteger, "postgresql"), primary_key=True, autoincrement=False
    )
    user_id: Mapped[str] = mapped_column(ForeignKey("plain_accounts.user_id"), index=True)
    amount_nanos: Mapped[int] = mapped_column(BigInteger)


class PlainLedger:
    """Charges one by one, with the durability that the ledger has."""

    def __init__(self, url: str) -> None:
        connections = 1 if url.startswith("sqlite") else _POSTGRESQL_CONNECTIONS
        self._engine = create_async_engine(url, pool_size=connections, max_overflow=0)
        if url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _as_durable)
        self._sessions = async_sessionmaker(self._engine, class_=AsyncSession)
        self._entries = 0

    async def open(self, users: list[str], balance_nanos: int) -> None:
        """Make the tables and the accounts."""
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            rows = [{"user_id": user, "balance_nanos": balance_nanos} for user in users]
            await connection.execute(insert(Account), rows)

    async def charge(self, user_id: str, amount_nanos: int) -> None:
        """Take credit."""
        self._entries += 1
        entry = Entry(id=self._entries, user_id=user_id, amount_nanos=-amount_nanos)
        async with self._sessions() as session, session.begin():
            account = await session.get_one(Account, user_id, with_for_update=True)
            assert account.balance_nanos >= amount_nanos
            account.balance_nanos -= amount_nanos
            session.add(entry)

    async def totals(self) -> tuple[int, int]:
        """Return the sum of all balances and the number of entries."""
        async with self._sessions() as session:
            total = await session.scalar(select(func.sum(Account.balance_nanos)))
            count = await session.scalar(select(func.count()).select_from(Entry))
        return int(total or 0), int(count or 0)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


def _as_durable(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()
