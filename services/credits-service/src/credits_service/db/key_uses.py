"""Notes when keys are used and refused, off the path of the requests that ask.

What is not written down yet when a process dies is lost: it is no money.
"""

import asyncio
from typing import NamedTuple, get_args

import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, or_, select, update

from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.key_writes import Actor, add_event
from credits_service.db.tables import issued_keys, key_events
from credits_service.keys.state import Reason, RefusedUse
from service_kit.logging import get_logger

_log = get_logger(__name__)

# Each key's last use is written so often at most, whoever notes it.
COARSE_MICROS = 60 * MICROS_PER_SECOND
# So many refusals of a key are written in an hour for each reason, so that none hides another;
# each tells how many it stands for.
REFUSALS_PER_HOUR = 10
# No more than these can have been written in an hour.
_REFUSALS_READ = REFUSALS_PER_HOUR * len({*get_args(Reason), *get_args(RefusedUse)})
_HOUR_MICROS = 3600 * MICROS_PER_SECOND
_INTERVAL_SECONDS = 5.0
# More keys than are asked about in one interval.
_WAITING_MAX = 10_000


_Refused = tuple[str, Reason | RefusedUse]


class _Refusal(NamedTuple):
    """Refusals of a key for one reason: the first of them, and how many there are."""

    actor: Actor
    at_micros: int
    refusals: int


class _Details(msgspec.Struct):
    """What a written refusal says."""

    reason: str
    count: int


_decode = msgspec.json.Decoder(_Details).decode


class KeyUses:
    """Gathers uses and refusals, and writes them every few seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[str, int] = {}
        self._refused: dict[_Refused, _Refusal] = {}
        # Those beyond the bound: the next that is written stands for them as well.
        self._untold: dict[_Refused, int] = {}
        self._task: asyncio.Task[None] | None = None
        at = bindparam("at_micros", type_=BigInteger)
        last = issued_keys.c.last_used_at_micros
        self._note_use = (
            update(issued_keys)
            .where(
                issued_keys.c.id == bindparam("key_id"),
                or_(last.is_(None), last <= at - COARSE_MICROS),
            )
            .values(last_used_at_micros=at)
        )

    def used(self, key_id: str, at_micros: int) -> None:
        """Note that a key was accepted."""
        if key_id in self._used or len(self._used) < _WAITING_MAX:
            self._used[key_id] = at_micros

    def refused(
        self,
        key_id: str,
        reason: Reason | RefusedUse,
        actor: Actor,
        at_micros: int,
        count: int = 1,
    ) -> None:
        """Note that a key was refused, once or several times."""
        found = self._refused.get((key_id, reason))
        if found is not None:
            self._refused[key_id, reason] = found._replace(refusals=found.refusals + count)
        elif len(self._refused) < _WAITING_MAX:
            self._refused[key_id, reason] = _Refusal(actor, at_micros, count)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="key-uses")

    async def close(self) -> None:
        """Stop, and write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._flush_or_log()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_SECONDS)
            await self._flush_or_log()

    async def _flush_or_log(self) -> None:
        try:
            await self.flush()
        except LedgerUnavailableError:
            _log.warning("key_uses_not_written", reason="the ledger can't be reached")
        except Exception:  # noqa: BLE001 - logged; the next time may do better
            _log.exception("key_uses_not_written")

    async def flush(self) -> None:
        """Write what was noted; what can't be written now is noted no more.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """
        used, self._used = self._used, {}
        refused, self._refused = self._refused, {}
        if not used and not refused:
            return

        def work(connection: Connection) -> None:
            # In order of their ids, so that no two processes wait for each other.
            if used:
                notes = [{"key_id": key_id, "at_micros": at} for key_id, at in sorted(used.items())]
                connection.execute(self._note_use, notes)
                connection.commit()
            for refusal_of, refusal in sorted(refused.items()):
                self._tell(connection, refusal_of, refusal)
                connection.commit()

        try:
            await self._database.write(work)
        except Exception as error:
            if classify(error) is Failure.UNEXPECTED:
                raise
            raise LedgerUnavailableError from error

    def _tell(self, connection: Connection, refusal_of: _Refused, refusal: _Refusal) -> None:
        """Write refusals with those before them that are not told yet, or keep their number."""
        total = refusal.refusals + self._untold.pop(refusal_of, 0)
        written = _write_refusal(connection, refusal_of, refusal._replace(refusals=total))
        if written is False and len(self._untold) < _WAITING_MAX:
            self._untold[refusal_of] = total


def _write_refusal(connection: Connection, refusal_of: _Refused, refusal: _Refusal) -> bool | None:
    """Write refusals down.

    Returns:
        Whether they were written, or there are too many in this hour; None: there is no such key.
    """
    key_id, reason = refusal_of
    lock = select(issued_keys.c.id).where(issued_keys.c.id == key_id).with_for_update()
    if connection.scalar(lock) is None:
        return None
    newest = (
        select(key_events.c.details, key_events.c.happened_at_micros)
        .where(key_events.c.key_id == key_id, key_events.c.kind == "refused")
        .order_by(key_events.c.seq.desc())
        .limit(_REFUSALS_READ)
    )
    since = refusal.at_micros - _HOUR_MICROS
    told = [details for details, at in connection.execute(newest) if at > since]
    if sum(_decode(details).reason == reason for details in told) >= REFUSALS_PER_HOUR:
        return False
    details = {"reason": reason, "count": refusal.refusals}
    add_event(
        connection,
        key_id,
        "refused",
        details,
        actor=refusal.actor,
        now_micros=refusal.at_micros,
    )
    return True
