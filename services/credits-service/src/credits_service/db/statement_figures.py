"""What a statement says of its whole period, on each of its pages."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.db.periods import Span, balance_after, seq_at, totals_of

# A statement that is read takes some hundred bytes.
KEPT_MAX = 1_000


class Period(NamedTuple):
    """What a statement is about: an account from a moment up to a transaction's number."""

    user_id: str
    from_micros: int
    last_seq: int


class Figures(NamedTuple):
    """Balances in nano-USD, and the sum of each kind of transaction.

    Attributes:
        opening_seq: the number of the last transaction before the period, or 0.
    """

    opening_seq: int
    opening_nanos: int
    closing_nanos: int
    totals_nanos: Mapping[str, int]


class StatementFigures:
    """Finds the figures of periods, and remembers those that were found last.

    What is booked never changes, so neither do they: the period is added up for its first
    page, not for each.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Period, Figures] = OrderedDict()

    async def of(self, connection: AsyncConnection, period: Period) -> Figures:
        """Return the figures of a period whose last transaction is there."""
        figures = self._kept.get(period)
        if figures is None:
            figures = self._kept[period] = await _figures(connection, period)
        self._kept.move_to_end(period)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return figures


async def _figures(connection: AsyncConnection, period: Period) -> Figures:
    user_id, from_micros, last_seq = period
    opening_seq = await seq_at(connection, user_id, last_seq, from_micros - 1)
    return Figures(
        opening_seq,
        await balance_after(connection, user_id, opening_seq),
        await balance_after(connection, user_id, last_seq),
        await totals_of(connection, user_id, Span(opening_seq, last_seq)),
    )
