"""Events that wait for their delivery: taken by lease, so that processes can share them."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    select,
    update,
)

from credits_service.core.errors import LedgerUnavailableError
from credits_service.db.bulk import columns_of, member_of, members
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.load import Clock
from credits_service.db.tables import webhook_events as events
from credits_service.db.webhook_queries import (
    ACCOUNTS,
    ACCOUNTS_MAX,
    MARK,
    NOW,
    OLDEST_OF_ACCOUNT,
    RETRIES,
    WAITING,
    WAITING_COUNT,
    Candidate,
)

T = TypeVar("T")


class WaitingEvent(NamedTuple):
    """An event that is to be delivered.

    Attributes:
        payload: JSON text.
        attempts: how many there were before.
    """

    id: str
    kind: str
    user_id: str
    payload: str
    created_at_micros: int
    attempts: int


class Mark(NamedTuple):
    """What became of an event that was taken.

    Attributes:
        end: None if it waits on.
        pause_micros: how long it waits; 0 and no attempt gives it back as it was.
        attempts: how many were made.
    """

    event_id: str
    end: Literal["delivered", "failed"] | None
    pause_micros: int = 0
    attempts: int = 1


def without_gaps(chosen: Iterable[Candidate], taken: Container[str]) -> list[str]:
    """Return what may be kept of what was taken: nothing after one that another process has."""
    lost: set[str] = set()
    kept: list[str] = []
    for each in chosen:
        if each.id not in taken:
            lost.add(each.user_id)
        elif each.user_id not in lost:
            kept.append(each.id)
    return kept


class WebhookOutbox:
    """The table of events, as those who deliver them see it.

    What is written goes where batches are written: a short transaction between two of them.
    """

    def __init__(self, database: Database, clock: Clock | None) -> None:
        self._database = database
        self._clock = clock
        # The account that had its turn last.
        self._after = ""
        self._dialect = database.writer.dialect.name
        named = member_of(events.c.id, "ids", self._dialect)
        due = named & WAITING & (events.c.next_attempt_at_micros <= bindparam("now"))
        # SQLite has no such clause, nor a second process, and leaves it out.
        self._lock = (
            select(*columns_of(events, WaitingEvent._fields))
            .where(due)
            .order_by(events.c.id)
            .with_for_update(skip_locked=True)
        )
        self._lease = update(events).where(named).values(next_attempt_at_micros=bindparam("until"))
        self._delete = delete(events).where(named)

    async def claim(self, *, limit: int, lease_micros: int) -> list[WaitingEvent]:
        """Take events for a while, in the order of their creation.

        An account's events are taken by one process at a time until each was tried once.
        Accounts take turns, so that no account's events wait for all of another's.

        Args:
            limit: the most untried events, and the most that are tried again.
            lease_micros: after this time others may take them.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """

        def find(connection: Connection) -> tuple[list[Candidate], list[Candidate]]:
            now = self._now(connection)
            due = connection.execute(RETRIES, {"now": now, "count": limit})
            return self._untried(connection, now, limit), [Candidate(*row) for row in due]

        untried, retries = await self._read(find)
        if not untried and not retries:
            return []

        def take(connection: Connection) -> list[WaitingEvent]:
            now = self._now(connection)
            wanted = members((each.id for each in (*untried, *retries)), self._dialect)
            rows = connection.execute(self._lock, {"ids": wanted, "now": now})
            found = {row.id: WaitingEvent(*row) for row in rows}
            kept = without_gaps(untried, found)
            kept += [each.id for each in retries if each.id in found]
            connection.execute(
                self._lease,
                {"ids": members(kept, self._dialect), "until": now + lease_micros},
            )
            connection.commit()
            return sorted(
                (found[event_id] for event_id in kept),
                key=lambda event: (event.created_at_micros, event.id),
            )

        return await self._write(take)

    def _untried(self, connection: Connection, now_micros: int, limit: int) -> list[Candidate]:
        """Find the oldest untried events of the accounts whose turn it is, as many of each."""
        found = [*connection.execute(ACCOUNTS, {"after": self._after})]
        if self._after and len(found) < ACCOUNTS_MAX:
            found += connection.execute(ACCOUNTS, {"after": ""})
        free = list(dict.fromkeys(user_id for user_id, due in found if due <= now_micros))[:limit]
        if found:
            self._after = free[-1] if free else found[-1][0]
        return [
            Candidate(*row)
            for user_id in free
            for row in connection.execute(
                OLDEST_OF_ACCOUNT, {"user_id": user_id, "count": limit // len(free)}
            )
        ]

    async def mark(self, marks: Iterable[Mark]) -> None:
        """Write down what became of events; what has ended already stays as it is.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """
        # Sorted, so that no two processes wait for each other.
        ordered = sorted(marks)

        def write(connection: Connection) -> None:
            now = self._now(connection)
            connection.execute(MARK, [_mark_parameters(mark, now) for mark in ordered])
            connection.commit()

        if ordered:
            await self._write(write)

    async def prune(self, *, age_micros: int, limit: int) -> int:
        """Delete events that ended so long ago; return how many there were, up to a limit.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """

        def find(connection: Connection) -> list[str]:
            before = self._now(connection) - age_micros
            found: list[str] = []
            for ended in (events.c.delivered_at_micros, events.c.failed_at_micros):
                query = select(events.c.id).where(ended < before).order_by(ended)
                found += connection.scalars(query.limit(limit - len(found)))
            return found

        old = await self._read(find)

        def remove(connection: Connection) -> None:
            connection.execute(self._delete, {"ids": members(old, self._dialect)})
            connection.commit()

        if old:
            await self._write(remove)
        return len(old)

    async def waiting(self) -> int:
        """Return how many events wait.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """
        return await self._read(lambda connection: sum(connection.execute(WAITING_COUNT).one()))

    def _now(self, connection: Connection) -> int:
        if self._clock is not None:
            return self._clock()
        return int(connection.scalar(NOW) or 0)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        with _unavailable():
            async with self._database.reader.connect() as connection:
                return await connection.run_sync(work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        with _unavailable():
            return await self._database.write(work)


def _mark_parameters(mark: Mark, now_micros: int) -> dict[str, Any]:
    return {
        "event_id": mark.event_id,
        "made": mark.attempts,
        "next": now_micros + mark.pause_micros,
        "delivered": now_micros if mark.end == "delivered" else None,
        "failed": now_micros if mark.end == "failed" else None,
    }


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if classify(error) is Failure.UNEXPECTED:
            raise
        raise LedgerUnavailableError from error
