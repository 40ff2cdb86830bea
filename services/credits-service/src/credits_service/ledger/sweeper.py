"""Settles due holds of accounts that nobody touches; correctness does not need it."""

import asyncio
from typing import Protocol

from credits_service.core.errors import LedgerUnavailableError
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import SettleDue
from credits_service.ledger.writer import Writer
from service_kit.logging import get_logger

_log = get_logger(__name__)

_PRINCIPAL = "sweeper"
_ACCOUNTS_PER_SWEEP = 500


class DueHolds(Protocol):
    """Where due holds are found."""

    async def accounts_with_due_holds(self, limit: int) -> list[str]:
        """Name accounts that have holds to settle."""


class Sweeper:
    """Looks for due holds again and again, and lets the writer settle them."""

    def __init__(self, due: DueHolds, writer: Writer, *, interval_seconds: float) -> None:
        self._due = due
        self._writer = writer
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
            except LedgerUnavailableError:
                _log.warning("sweep_skipped", reason="the ledger can't be reached")
            except Exception:  # noqa: BLE001 - logged; the next sweep may do better
                _log.exception("sweep_failed")

    async def sweep(self) -> int:
        """Settle what is due now; return the number of accounts."""
        user_ids = await self._due.accounts_with_due_holds(_ACCOUNTS_PER_SWEEP)
        commands = [Command(SettleDue(user_id), _PRINCIPAL, "") for user_id in user_ids]
        await asyncio.gather(*map(self._writer.submit, commands))
        return len(user_ids)
