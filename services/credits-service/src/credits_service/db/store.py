"""Runs a batch of commands in one transaction, and again where that is safe and useful."""

import asyncio
import random
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select

from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.ids import new_id
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.load import Clock, Loader
from credits_service.db.locked_accounts import LockedAccounts
from credits_service.db.save import save
from credits_service.db.tables import transactions
from credits_service.ledger.batch import Command, Outcome, Render, Result, apply_batch
from credits_service.ledger.events import EventRules

_ATTEMPTS = 5
BATCH_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_LOCK_NOT_AVAILABLE = "55P03"


class LedgerStore:
    """The ledger's storage, as the writer sees it.

    Args:
        database: where the ledger is.
        render: how answers are written.
        clock: microseconds since 1970; None asks the database.
        events: which events are written down; None for none.
        on_events: called once some were.
        on_booked: called with what a committed transaction has booked: how many holds expired,
            and in nano-USD what was not paid of each charge that could not be paid in full.
        make_id: makes identifiers.
        batch_seconds: how long all attempts at a batch may take on PostgreSQL: the peer may
            be so silent that each attempt takes all the time that it is given.
    """

    def __init__(
        self,
        database: Database,
        *,
        render: Render,
        clock: Clock | None,
        events: EventRules | None = None,
        on_events: Callable[[], None] | None = None,
        on_booked: Callable[[int, list[int]], None] | None = None,
        make_id: Callable[[], str] = new_id,
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        self._database = database
        self._render = render
        self._events = events
        self._on_events = on_events
        self._on_booked = on_booked
        self._make_id = make_id
        self._loader = Loader(database.writer.dialect.name, clock)
        # In its thread a transaction on SQLite can't be broken off, nor is a peer waited for.
        self._batch_seconds = None if database.is_sqlite else batch_seconds
        self._locked = LockedAccounts(database, self._loader)

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        """Run the commands in one transaction.

        Raises:
            AccountsLockedError: another session keeps some of the accounts locked; the other
                commands can be run at once.
            LedgerUnavailableError: the database can't be asked now; nothing was changed, or
                a retry with the same idempotency key tells what was.
        """
        try:
            async with asyncio.timeout(self._batch_seconds):
                await self._locked.refuse_known(commands)
                return await self._execute(commands)
        except TimeoutError as error:
            raise LedgerUnavailableError from error

    async def _execute(self, commands: Sequence[Command]) -> list[Result]:
        unanswered: Outcome | None = None

        def before_commit(outcome: Outcome) -> None:
            nonlocal unanswered
            # Without a transaction in the journal a second run is harmless: its commands are
            # remembered by their keys, or say the same however often they are heard.
            unanswered = outcome if outcome.journal.transactions else None

        for number in range(1, _ATTEMPTS + 1):
            try:
                return await self._attempt(commands, unanswered, before_commit)
            except Exception as error:
                failure = classify(error)
                if unanswered is None and failure is Failure.UNEXPECTED:
                    raise
                if unanswered is None and _is_lock_timeout(error):
                    await self._locked.refuse_stuck(commands)
                    # They were busy, or are free by now.
                    failure = Failure.TRANSIENT if number == 1 else failure
                waited_enough = failure is Failure.UNREPLICATED or (
                    unanswered is None and failure is Failure.BUSY
                )
                if number == _ATTEMPTS or waited_enough:
                    raise LedgerUnavailableError from error
                # After a commit without an answer only the database can tell what became of
                # it: whatever fails now, it is asked again before anything is run again.
            # Jitter against processes that collide in step; no secret depends on it.
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**number))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        commands: Sequence[Command],
        unanswered: Outcome | None,
        before_commit: Callable[[Outcome], None],
    ) -> list[Result]:
        """Run the batch once, unless an earlier commit that went unanswered has happened."""

        def work(connection: Connection) -> Outcome:
            loaded = self._loader.load(connection, commands)
            # The accounts are locked now, so that commit is done or never will be.
            if unanswered is not None and _is_booked(connection, unanswered):
                # The locks are a change as well: this waits for the standby if there is one.
                connection.commit()
                return unanswered
            outcome = apply_batch(
                loaded,
                commands,
                new_id=self._make_id,
                render=self._render,
                events=self._events,
            )
            save(connection, loaded, outcome)
            before_commit(outcome)
            connection.commit()
            return outcome

        outcome = await self._database.write(work)
        if self._on_events is not None and outcome.journal.event_log.events:
            self._on_events()
        if self._on_booked is not None:
            booked = outcome.journal.transactions
            shortfalls = [each.shortfall_nanos for each in booked if each.shortfall_nanos]
            self._on_booked(outcome.journal.event_log.holds_expired, shortfalls)
        return outcome.results


def _is_booked(connection: Connection, outcome: Outcome) -> bool:
    mark = outcome.journal.transactions[0].id
    found = connection.scalar(select(transactions.c.id).where(transactions.c.id == mark))
    return found is not None


def _is_lock_timeout(error: BaseException) -> bool:
    orig = getattr(error, "orig", None)
    return getattr(orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE
