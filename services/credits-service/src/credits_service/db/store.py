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
from credits_service.db.save import save
from credits_service.db.tables import transactions
from credits_service.ledger.batch import Command, Outcome, Render, Result, apply_batch

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.02


class LedgerStore:
    """The ledger's storage, as the writer sees it."""

    def __init__(
        self,
        database: Database,
        *,
        render: Render,
        clock: Clock | None,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._database = database
        self._render = render
        self._make_id = make_id
        self._loader = Loader(database.writer.dialect.name, clock)

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        """Run the commands in one transaction.

        Raises:
            LedgerUnavailableError: the database can't be asked now; nothing was changed, or
                a retry with the same idempotency key tells what was.
        """
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
                if number == _ATTEMPTS or (unanswered is None and failure is Failure.BUSY):
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

        def work(connection: Connection) -> list[Result]:
            loaded = self._loader.load(connection, commands)
            # The accounts are locked now, so that commit is done or never will be.
            if unanswered is not None and _is_booked(connection, unanswered):
                return unanswered.results
            outcome = apply_batch(loaded, commands, new_id=self._make_id, render=self._render)
            save(connection, loaded, outcome)
            before_commit(outcome)
            connection.commit()
            return outcome.results

        return await self._database.write(work)


def _is_booked(connection: Connection, outcome: Outcome) -> bool:
    mark = outcome.journal.transactions[0].id
    found = connection.scalar(select(transactions.c.id).where(transactions.c.id == mark))
    return found is not None
