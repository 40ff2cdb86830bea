"""How waiting events are found and marked: statements that no backlog makes slow."""

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Select,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
    update,
)

from credits_service.db.bulk import columns_of
from credits_service.db.tables import webhook_events as events

# How many accounts are looked at for some that are free.
ACCOUNTS_MAX = 500


class Candidate(NamedTuple):
    """An event that may be taken."""

    id: str
    user_id: str


WAITING = events.c.delivered_at_micros.is_(None) & events.c.failed_at_micros.is_(None)
# Written out: a plan made for any number could not use the indexes.
_UNTRIED = WAITING & (events.c.attempts == literal_column("0"))
_RETRIED = WAITING & (events.c.attempts > literal_column("0"))
_CANDIDATE = columns_of(events, Candidate._fields)
NOW = select(cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger))
_OLDEST_FIRST = (events.c.created_at_micros, events.c.id)
OLDEST_OF_ACCOUNT = (
    select(*_CANDIDATE)
    .where(_UNTRIED, events.c.user_id == bindparam("user_id"))
    .order_by(*_OLDEST_FIRST)
    .limit(bindparam("count"))
)
RETRIES = (
    select(*_CANDIDATE)
    .where(
        _RETRIED,
        events.c.next_attempt_at_micros > 0,
        events.c.next_attempt_at_micros <= bindparam("now"),
    )
    .order_by(events.c.next_attempt_at_micros)
    .limit(bindparam("count"))
)
# Each from its own index.
WAITING_COUNT = select(
    *(
        select(func.count()).select_from(events).where(those).scalar_subquery()
        for those in (_UNTRIED, _RETRIED)
    )
)
MARK = (
    update(events)
    .where(events.c.id == bindparam("event_id"), WAITING)
    .values(
        attempts=events.c.attempts + bindparam("made"),
        next_attempt_at_micros=bindparam("next"),
        delivered_at_micros=bindparam("delivered"),
        failed_at_micros=bindparam("failed"),
    )
)


def _accounts_with_untried() -> Select[Any]:
    """Write the query for the next accounts that have untried events.

    It steps from account to account through the index, past however many events each has.

    Returns:
        of each account its name, and the moment from which its oldest event may be tried: one
        that is under way is always older than the rest.
    """

    def next_account(after: Any) -> Any:
        found = select(events.c.user_id).where(_UNTRIED, events.c.user_id > after)
        return found.order_by(events.c.user_id).limit(1).scalar_subquery()

    first = select(next_account(bindparam("after")).label("user_id"), literal(1).label("number"))
    steps = first.cte("steps", recursive=True)
    steps = steps.union_all(
        select(next_account(steps.c.user_id), steps.c.number + 1).where(
            steps.c.user_id.is_not(None), steps.c.number < ACCOUNTS_MAX
        )
    )
    due = (
        select(events.c.next_attempt_at_micros)
        .where(_UNTRIED, events.c.user_id == steps.c.user_id)
        .order_by(*_OLDEST_FIRST)
        .limit(1)
        .scalar_subquery()
    )
    return select(steps.c.user_id, due).where(steps.c.user_id.is_not(None)).order_by(steps.c.number)


ACCOUNTS = _accounts_with_untried()
