"""What may be spent: an account's free credit, within its limits and those of an issued key.

A day and a month are those of the calendar in UTC. What charges took counts, and what holds
reserve; a refund gives credit back, but no allowance.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.core.money import MAX_NANOS
from credits_service.ledger.state import Account, KeySpending

LimitName = Literal["day", "month", "total", "key_day", "key_month", "key_total"]
_Names = tuple[LimitName, LimitName, LimitName]

_OF_ACCOUNT: _Names = ("day", "month", "total")
_OF_KEY: _Names = ("key_day", "key_month", "key_total")

_MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
_EPOCH = date(1970, 1, 1)


class Spender(Protocol):
    """Who has limits and counters: an account or an issued key."""

    limit_day_nanos: int | None
    limit_month_nanos: int | None
    limit_total_nanos: int | None
    held_nanos: int
    spent_total_nanos: int
    spent_day_nanos: int
    spent_month_nanos: int
    spent_at_micros: int


class Spent(NamedTuple):
    """What charges have taken: today, this month, ever."""

    day_nanos: int
    month_nanos: int
    total_nanos: int


class Renewal(NamedTuple):
    """When limits begin anew, in UTC."""

    day_micros: int
    month_micros: int


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


def renewal(now_micros: int) -> Renewal:
    """Return when the day and the month of a moment end."""
    day = day_of(now_micros)
    date_then = _EPOCH + timedelta(days=day)
    # No month has more than 31 days, and none ends after less than 28 of the next.
    next_month = (date_then.replace(day=1) + timedelta(days=31)).replace(day=1)
    return Renewal(
        (day + 1) * _MICROS_PER_DAY,
        (next_month - _EPOCH).days * _MICROS_PER_DAY,
    )


def spent(spender: Spender, now_micros: int) -> Spent:
    """Return what has been spent in the day and the month of a moment, and ever."""
    last = spender.spent_at_micros
    same_day = day_of(last) == day_of(now_micros)
    same_month = same_day or month_of(last) == month_of(now_micros)
    return Spent(
        spender.spent_day_nanos if same_day else 0,
        spender.spent_month_nanos if same_month else 0,
        spender.spent_total_nanos,
    )


def count_spent(spender: Spender, nanos: int, now_micros: int) -> None:
    """Count what a charge takes."""
    day_nanos, month_nanos, total_nanos = spent(spender, now_micros)
    # What is refunded can be spent again, so that the sums may pass every balance.
    spender.spent_day_nanos = min(MAX_NANOS, day_nanos + nanos)
    spender.spent_month_nanos = min(MAX_NANOS, month_nanos + nanos)
    spender.spent_total_nanos = min(MAX_NANOS, total_nanos + nanos)
    spender.spent_at_micros = now_micros


def _left(spender: Spender, names: _Names, now_micros: int) -> Iterator[tuple[LimitName, int]]:
    """Tell what each limit leaves, holds not regarded."""
    day, month, total = names
    used = spent(spender, now_micros)
    if spender.limit_day_nanos is not None:
        yield day, spender.limit_day_nanos - used.day_nanos
    if spender.limit_month_nanos is not None:
        yield month, spender.limit_month_nanos - used.month_nanos
    if spender.limit_total_nanos is not None:
        yield total, spender.limit_total_nanos - used.total_nanos


def _is_limited(account: Account) -> bool:
    return (
        account.limit_day_nanos is not None
        or account.limit_month_nanos is not None
        or account.limit_total_nanos is not None
    )


def _within(found: Spendable, spender: Spender, names: _Names, now_micros: int) -> Spendable:
    """Return what of an amount can be spent within the limits of one spender."""
    nanos, limit = found
    for name, left_nanos in _left(spender, names, now_micros):
        free_nanos = max(0, left_nanos - spender.held_nanos)
        if free_nanos < nanos:
            nanos, limit = free_nanos, name
    return Spendable(nanos, limit)


def spendable(account: Account, now_micros: int, key: KeySpending | None = None) -> Spendable:
    """Return what a new charge, hold or raise may take.

    Args:
        account: who pays.
        now_micros: the moment.
        key: one of its issued keys, whose limits count as well.
    """
    found = Spendable(account.available_nanos, None)
    if _is_limited(account):
        found = _within(found, account, _OF_ACCOUNT, now_micros)
    if key is not None:
        found = _within(found, key, _OF_KEY, now_micros)
    return found


def could_spend(
    account: Account, nanos: int, now_micros: int, key: KeySpending | None = None
) -> bool:
    """Whether an amount could be spent if no hold reserved anything."""
    left = [*_left(account, _OF_ACCOUNT, now_micros)]
    if key is not None:
        left += _left(key, _OF_KEY, now_micros)
    return nanos <= account.balance_nanos and all(nanos <= left_nanos for _name, left_nanos in left)
