"""Forgets remembered answers whose time is over; the journal keeps their keys."""

from sqlalchemy import Connection, delete, select, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.load import Clock, Loader
from credits_service.db.tables import idempotency_keys

_MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND


class KeyRetention:
    """Knows how long answers are remembered.

    Args:
        database: where they are.
        clock: as the store's.
        days: how long each is kept.
    """

    def __init__(self, database: Database, clock: Clock | None, *, days: int) -> None:
        self._database = database
        self._loader = Loader(database.writer.dialect.name, clock)
        self._days = days

    async def forget(self, limit: int) -> int:
        """Forget the oldest answers that are old enough; return how many.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """

        def work(connection: Connection) -> int:
            before_micros = self._loader.now(connection) - self._days * _MICROS_PER_DAY
            primary_key = tuple_(idempotency_keys.c.key, idempotency_keys.c.scope)
            old = (
                select(idempotency_keys.c.key, idempotency_keys.c.scope)
                .where(idempotency_keys.c.created_at_micros < before_micros)
                .order_by(idempotency_keys.c.created_at_micros)
                .limit(limit)
                # Processes that forget at once take different ones.
                .with_for_update(skip_locked=True)
            )
            done = connection.execute(delete(idempotency_keys).where(primary_key.in_(old)))
            connection.commit()
            return done.rowcount

        try:
            return await self._database.write(work)
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            if classify(error) is Failure.UNEXPECTED:
                raise
            raise LedgerUnavailableError from error
