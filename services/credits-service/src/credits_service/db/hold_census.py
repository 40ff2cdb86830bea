"""Counts the holds that reserve credit, off the index of those alone."""

from sqlalchemy import func, literal, select

from credits_service.core.money_metrics import MoneyMetrics
from credits_service.db.queries import LedgerQueries
from credits_service.db.tables import holds

# The comparison makes the index of active holds the way to them: all of them are in it, however
# many have ended. Written into the statement, as for a parameter no partial index would be used.
_OPEN = select(func.count(), func.min(holds.c.created_at_micros)).where(
    holds.c.status == literal("active", literal_execute=True), holds.c.expires_at_micros > 0
)


class HoldCensus:
    """Counts them for the metrics, as often as the sweeper comes by."""

    def __init__(self, queries: LedgerQueries, metrics: MoneyMetrics) -> None:
        self._queries = queries
        self._metrics = metrics

    async def take(self) -> None:
        """Count.

        Raises:
            LedgerUnavailableError: the ledger can't be asked now.
        """
        async with self._queries.connection() as connection:
            count, oldest_micros = (await connection.execute(_OPEN)).one()
        self._metrics.counted(count, oldest_micros)
