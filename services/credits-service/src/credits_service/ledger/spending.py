"""What an account may spend: its free credit, within the limits that were set for it.

A day and a month are those of the calendar in UTC. What charges took counts, and what holds
reserve; a refund gives credit back, but no allowance.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.core.money import MAX_NANOS
from credits_service.ledger.state import Account

LimitName = Literal["day", "month", "total"]

_MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
_EPOCH = date(1970, 1, 1)


class Spent(NamedTuple):
    """What charges have taken: today, this month, ever."""

    day_nanos: int
    month_nanos: int
    total_nanos: int


class Spendable(NamedTuple):
    """What can be spent now.

    Attributes:
        limit: the limit that allows no more; None if it is the credit itself.
    """

    nanos: int
    limit: LimitName | None


def day_of(micros: int) -> int:
    """Number a moment's day."""
    return micros // _MICROS_PER_DAY


@lru_cache(maxsize=256)
def _month_of_day(day: int) -> int:
    moment = _EPOCH + timedelta(days=day)
    return moment.year * 12 + moment.month


def month_of(micros: int) -> int:
    """Number a moment's month."""
    return _month_of_day(day_of(micros))


def spent(account: Account, now_micros: int) -> Spent:
    """Return what has been spent in the day and the month of a moment, and ever."""
    last = account.spent_at_micros
    same_day = day_of(last) == day_of(now_micros)
    same_month = same_day or month_of(last) == month_of(now_micros)
    return Spent(
        account.spent_day_nanos if same_day else 0,
        account.spent_month_nanos if same_month else 0,
        account.spent_total_nanos,
    )


def count_spent(account: Account, nanos: int, now_micros: int) -> None:
    """Count what a charge takes."""
    day_nanos, month_nanos, total_nanos = spent(account, now_micros)
    # What is refunded can be spent again, so that the sums may pass every balance.
    account.spent_day_nanos = min(MAX_NANOS, day_nanos + nanos)
    account.spent_month_nanos = min(MAX_NANOS, month_nanos + nanos)
    account.spent_total_nanos = min(MAX_NANOS, total_nanos + nanos)
    account.spent_at_micros = now_micros


def _left(account: Account, now_micros: int) -> Iterator[tuple[LimitName, int]]:
    """Tell what each limit leaves, holds not regarded."""
    used = spent(account, now_micros)
    if account.limit_day_nanos is not None:
        yield "day", account.limit_day_nanos - used.day_nanos
    if account.limit_month_nanos is not None:
        yield "month", account.limit_month_nanos - used.month_nanos
    if account.limit_total_nanos is not None:
        yield "total", account.limit_total_nanos - used.total_nanos


def _is_limited(account: Account) -> bool:
    return (
        account.limit_day_nanos is not None
        or account.limit_month_nanos is not None
        or account.limit_total_nanos is not None
    )


def spendable(account: Account, now_micros: int) -> Spendable:
    """Return what a new charge, hold or raise may take."""
    nanos = account.available_nanos
    limit: LimitName | None = None
    if _is_limited(account):
        for name, left_nanos in _left(account, now_micros):
            free_nanos = max(0, left_nanos - account.held_nanos)
            if free_nanos < nanos:
                nanos, limit = free_nanos, name
    return Spendable(nanos, limit)


def could_spend(account: Account, nanos: int, now_micros: int) -> bool:
    """Whether an amount could be spent if no hold reserved anything."""
    return nanos <= account.balance_nanos and all(
        nanos <= left_nanos for _name, left_nanos in _left(account, now_micros)
    )
