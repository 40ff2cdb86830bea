"""Settles due holds of accounts that nobody touches, and forgets old idempotency keys.

Correctness needs neither.
"""

import asyncio
from typing import Protocol

from credits_service.core.errors import LedgerUnavailableError
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import SettleDue
from credits_service.ledger.writer import Writer
from service_kit.logging import get_logger

_log = get_logger(__name__)

_PRINCIPAL = "sweeper"
_ACCOUNTS_PER_STEP = 500
# Small transactions, as the writer waits for each on SQLite; many of them after a long stop.
_KEYS_PER_STEP = 500
_STEPS_PER_SWEEP = 20


class DueHolds(Protocol):
    """Where due holds are found."""

    async def accounts_with_due_holds(self, limit: int) -> list[str]:
        """Name accounts that have holds to settle."""


class OldKeys(Protocol):
    """Where remembered answers are forgotten when their time is over."""

    async def forget(self, limit: int) -> int:
        """Forget some that are old enough; return how many."""


class Census(Protocol):
    """What is counted in each sweep, for the metrics."""

    async def take(self) -> None:
        """Count."""


class Sweeper:
    """Looks for what is due again and again; the writer settles the holds."""

    def __init__(
        self,
        due: DueHolds,
        keys: OldKeys,
        writer: Writer,
        census: Census,
        *,
        interval_seconds: float,
    ) -> None:
        self._due = due
        self._keys = keys
        self._writer = writer
        self._census = census
        self._interval_seconds = interval_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="hold-sweeper")

    async def close(self) -> None:
        """Stop looking; what the writer has been given is finished there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.sweep()
                await self._census.take()
                await self.forget_old_keys()
            except LedgerUnavailableError:
                _log.warning("sweep_skipped", reason="the ledger can't be reached")
            except Exception:  # noqa: BLE001 - logged; the next sweep may do better
                _log.exception("sweep_failed")

    async def sweep(self) -> int:
        """Settle what is due now, of many accounts; return how often one was settled.

        An account that can't be locked now keeps no other from being settled.
        """
        settled = 0
        for _step in range(_STEPS_PER_SWEEP):
            user_ids = await self._due.accounts_with_due_holds(_ACCOUNTS_PER_STEP)
            commands = [Command(SettleDue(user_id), _PRINCIPAL, "") for user_id in user_ids]
            outcomes = await self._writer.submit_many(commands) if commands else []
            failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            settled += len(outcomes) - len(failures)
            for failure in failures:
                if not isinstance(failure, LedgerUnavailableError):
                    raise failure
            # A batch settles a bounded number of holds: one account may come again.
            if failures or not outcomes:
                break
        return settled

    async def forget_old_keys(self) -> int:
        """Forget remembered answers whose time is over, a bounded number; return how many."""
        forgotten = 0
        for _step in range(_STEPS_PER_SWEEP):
            step = await self._keys.forget(_KEYS_PER_STEP)
            forgotten += step
            if step < _KEYS_PER_STEP:
                break
        return forgotten
