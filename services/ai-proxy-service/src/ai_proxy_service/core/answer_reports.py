"""What a run of an answer tells the store: what has come, what is charged, and how it ended."""

import asyncio
import time

from ai_proxy_service.core.answers import KeyReport
from ai_proxy_service.core.errors import AnswersUnavailableError
from ai_proxy_service.core.kept_answers import CheckedStore
from ai_proxy_service.core.recording import Recording
from service_kit.logging import get_logger

_log = get_logger(__name__)

RETRY_SECONDS = 0.5
# How long an answer that is there waits for a store that fails.
KEEP_SECONDS_MAX = 600.0
# How long a charge waits for its mark: for a report that is under way, and its own.
MARK_SECONDS_MAX = 4.0


class AnswerReports:
    """Reports recordings to the store; a report that matters is made until it has arrived.

    Attributes:
        closing: the process ends, so nothing is tried for long any more.
    """

    def __init__(self, store: CheckedStore) -> None:
        self.closing = False
        self._store = store
        self._marks: set[asyncio.Task[None]] = set()

    async def report(self, recording: Recording) -> bool:
        """Report what has come since; return whether the key is still the run's.

        Raises:
            AnswersUnavailableError: it may not have arrived.
        """
        async with recording.keeping:
            position, pieces = recording.unkept()
            report = KeyReport(position, pieces, charged=recording.charged, state=recording.state)
            owned = await self._store.ask(
                self._store.store.report(recording.name, recording.token, report)
            )
            recording.confirm(len(pieces))
            recording.marked |= owned and report.charged
        return owned

    async def insist(self, recording: Recording) -> None:
        """Report until the store has all of it, or has failed for too long."""
        began_at = time.monotonic()
        while True:
            try:
                owned = await self.report(recording)
                while owned and recording.ended and recording.has_unkept():
                    owned = await self.report(recording)
            except AnswersUnavailableError:
                seconds_max = MARK_SECONDS_MAX if self.closing else KEEP_SECONDS_MAX
                if time.monotonic() - began_at > seconds_max:
                    _log.error(
                        "answer_not_kept",
                        marked=recording.marked,
                        consequence="a repeat is refused; without a mark, charged as well",
                    )
                    return
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if not owned:
                    _log.error(
                        "answer_key_taken",
                        consequence="it was charged, and what is answered in its place may be, too",
                    )
                return

    async def mark(self, recording: Recording) -> None:
        """Note that an answer may be charged from now on; if its process dies, it is not made anew.

        The charge waits for that for a while, and is then made in any case; the mark is tried on.
        """
        if recording.marked:
            return
        marking = asyncio.create_task(self.insist(recording), name="mark")
        self._marks.add(marking)
        marking.add_done_callback(self._marks.discard)
        await asyncio.wait({marking}, timeout=None if self.closing else MARK_SECONDS_MAX)

    async def aclose(self) -> None:
        """Wait for the marks that are still to be made."""
        if self._marks:
            await asyncio.wait(set(self._marks))
