"""Reading issued keys: on readers' connections, never in the writer's way."""

from typing import NamedTuple

from sqlalchemy import select

from credits_service.db.bulk import members
from credits_service.db.key_rows import (
    EVENT_COLUMNS,
    KEY,
    KEY_COLUMNS,
    SECRET_COLUMNS,
    key_from,
    records_from,
    secrets_query,
)
from credits_service.db.key_spending import key_spendings
from credits_service.db.queries import LedgerQueries
from credits_service.db.rows import key_spending_from
from credits_service.db.tables import issued_keys, key_events, key_secrets
from credits_service.keys.state import IssuedKey, KeyEvent, KeyRecord, KeySecret
from credits_service.ledger.state import KeySpending
from service_kit.issued_keys import PresentedKey


class FoundKey(NamedTuple):
    """What a prefix leads to; both or neither."""

    key: IssuedKey | None
    secret: KeySecret | None
    now_micros: int


class KeyQueries:
    """What can be asked about issued keys.

    Args:
        queries: opens the connections, and tells the time.
    """

    def __init__(self, queries: LedgerQueries) -> None:
        self._queries = queries

    async def presented(self, shown: PresentedKey) -> FoundKey:
        """Find the key that a presented secret belongs to, and the moment.

        A wrong secret after a right prefix finds nothing either, so that a guess at a known key
        takes as long as one at none.
        """
        query = (
            select(*KEY_COLUMNS, *SECRET_COLUMNS)
            .join_from(key_secrets, issued_keys, key_secrets.c.key_id == issued_keys.c.id)
            .where(key_secrets.c.prefix == shown.prefix, key_secrets.c.digest == shown.digest)
        )
        async with self._queries.connection() as connection:
            row = (await connection.execute(query)).first()
            now_micros = await self._queries.now(connection)
        if row is None:
            return FoundKey(None, None, now_micros)
        return FoundKey(key_from(row[: len(KEY)]), KeySecret(*row[len(KEY) :]), now_micros)

    async def keys(
        self,
        *,
        limit: int,
        before: str | None = None,
        account: str | None = None,
        prefix: str | None = None,
        key_id: str | None = None,
    ) -> tuple[list[KeyRecord], int]:
        """Read keys, newest first, and the moment.

        Args:
            limit: the most.
            before: the id of the last one of the page before.
            account: only this account's.
            prefix: only the one that has, or had, a secret with this prefix.
            key_id: only this one.
        """
        query = select(*KEY_COLUMNS).order_by(issued_keys.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(issued_keys.c.id < before)
        if account is not None:
            query = query.where(issued_keys.c.account == account)
        if key_id is not None:
            query = query.where(issued_keys.c.id == key_id)
        if prefix is not None:
            owner = select(key_secrets.c.key_id).where(key_secrets.c.prefix == prefix)
            query = query.where(issued_keys.c.id.in_(owner))
        async with self._queries.connection() as connection:
            found = [key_from(row) for row in await connection.execute(query)]
            dialect = connection.dialect.name
            ids = members((key.id for key in found), dialect)
            secrets = await connection.execute(secrets_query(dialect), {"ids": ids})
            return records_from(found, secrets), await self._queries.now(connection)

    async def spending(self, key_id: str) -> KeySpending:
        """Read the limits and counters of a key that is there."""
        query = key_spendings().where(issued_keys.c.id == key_id)
        async with self._queries.connection() as connection:
            return key_spending_from((await connection.execute(query)).one())

    async def events(self, key_id: str, *, before: int | None, limit: int) -> list[KeyEvent] | None:
        """Read what happened to a key, newest first, from before a number.

        Returns:
            None, if there is no such key.
        """
        query = select(*EVENT_COLUMNS).where(key_events.c.key_id == key_id)
        if before is not None:
            query = query.where(key_events.c.seq < before)
        query = query.order_by(key_events.c.seq.desc()).limit(limit)
        known = select(issued_keys.c.id).where(issued_keys.c.id == key_id)
        async with self._queries.connection() as connection:
            if await connection.scalar(known) is None:
                return None
            return [KeyEvent(*row) for row in await connection.execute(query)]
