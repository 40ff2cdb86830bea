"""Accounts that another session keeps locked, told from those that are merely in use.

Other processes lock accounts as well, for the moment of a batch, and one that many use is
nearly always locked by somebody. It moves on from one transaction to the next; an account is
stuck if one and the same transaction has it all the time.
"""

import asyncio
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from credits_service.core.errors import AccountsLockedError, LedgerUnavailableError
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.load import Loader
from credits_service.ledger.batch import Command

# Doubled from one to the next, 0.62 s in all: more than a batch takes, and no more than what a
# batch that has waited for a lock in vain can wait besides.
_PAUSES_SECONDS = (0.02, 0.04, 0.08, 0.16, 0.32)


class LockedAccounts:
    """The accounts that are known to be stuck, each with the transaction that has it."""

    def __init__(self, database: Database, loader: Loader) -> None:
        self._database = database
        self._loader = loader
        self._stuck: dict[str, int] = {}

    async def refuse_known(self, commands: Sequence[Command]) -> None:
        """Refuse commands about accounts that are stuck still, and forget those that are not.

        Raises:
            AccountsLockedError: there are such commands.
            LedgerUnavailableError: the database can't be asked now.
        """
        if self._stuck:
            users, holders = await self._probe(commands, self._stuck)
            self._stuck = _unchanged(self._stuck, holders)
            self._refuse(users)

    async def refuse_stuck(self, commands: Sequence[Command]) -> None:
        """Find out which accounts of a batch are stuck, after it waited for a lock in vain.

        Raises:
            AccountsLockedError: there are commands about such accounts.
            LedgerUnavailableError: the database can't be asked now.
        """
        users, stuck = await self._probe(commands, None)
        for pause_seconds in _PAUSES_SECONDS:
            if not stuck:
                break
            await asyncio.sleep(pause_seconds)
            _users, holders = await self._probe((), stuck)
            stuck = _unchanged(stuck, holders)
        self._stuck |= stuck
        self._refuse(users)

    async def _probe(
        self, commands: Sequence[Command], asked: Iterable[str] | None
    ) -> tuple[list[str | None], dict[str, int]]:
        """Return each command's account, and who has which of the accounts that are asked for.

        Args:
            commands: a batch.
            asked: accounts; None for those of the commands.
        """

        def work(connection: Connection) -> tuple[list[str | None], dict[str, int]]:
            users = self._loader.accounts_of(connection, commands)
            wanted = {user for user in users if user is not None} if asked is None else set(asked)
            return users, self._loader.lock_holders(connection, wanted)

        try:
            return await self._database.write(work)
        except Exception as error:
            if classify(error) is Failure.UNEXPECTED:
                raise
            raise LedgerUnavailableError from error

    def _refuse(self, users: Sequence[str | None]) -> None:
        positions = frozenset(at for at, user in enumerate(users) if user in self._stuck)
        if positions:
            raise AccountsLockedError(positions)


def _unchanged(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Return the accounts that the same transaction has now as before."""
    return {user: holder for user, holder in before.items() if now.get(user) == holder}
