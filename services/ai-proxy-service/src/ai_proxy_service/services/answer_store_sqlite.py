"""Answers under idempotency keys in one SQLite file, which several processes may share."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import aiosqlite

from ai_proxy_service.core.answers import KeyEntry, KeyReport, KeyState
from ai_proxy_service.services.answer_bounds import BOUNDS, AnswerBounds
from ai_proxy_service.services.store_connections import open_sqlite

FILE_TIMEOUT_SECONDS = 2.0
_PRUNE_EVERY = 64
_READ_PIECES = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    name BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    token BLOB NOT NULL,
    state TEXT NOT NULL,
    charged INTEGER NOT NULL,
    beat INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    weight_bytes INTEGER NOT NULL,
    changed_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (changed_at);
CREATE TABLE IF NOT EXISTS pieces (
    token BLOB NOT NULL,
    position INTEGER NOT NULL,
    piece BLOB NOT NULL,
    UNIQUE (token, position)
) STRICT;
"""
_ENTRY = "SELECT fingerprint, token, state, charged, beat, pieces FROM answers WHERE name = :name"
_LOSE = """
UPDATE answers SET state = 'lost' WHERE name = :name
    AND token = :stale_token AND beat = :stale_beat AND state = 'running' AND charged = 1
"""
_CLAIM = """
INSERT INTO answers VALUES (:name, :fingerprint, :token, 'running', 0, 0, 0, 0, :now)
ON CONFLICT (name) DO UPDATE SET
    fingerprint = excluded.fingerprint, token = excluded.token, state = 'running', charged = 0,
    beat = 0, pieces = 0, weight_bytes = 0, changed_at = excluded.changed_at
WHERE changed_at < :oldest OR (
    token = :stale_token AND beat = :stale_beat AND state = 'running' AND charged = 0
)
"""
_KEEP = "INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)"
_REPORT = """
UPDATE answers SET state = :state, charged = charged OR :charged, beat = beat + 1,
    pieces = :pieces, changed_at = :now, weight_bytes = CASE WHEN :state = 'done'
        THEN (SELECT total(length(piece)) FROM pieces WHERE pieces.token = :token) ELSE 0 END
WHERE name = :name AND token = :token
"""
_FORGET = """
DELETE FROM answers WHERE changed_at < :oldest OR name IN (
    SELECT name FROM answers WHERE state <> 'running' ORDER BY changed_at
    LIMIT max(0, (SELECT count(*) FROM answers) - :answers)
)
"""
_LIGHTEN = """
UPDATE answers SET state = 'pruned', pieces = 0, weight_bytes = 0 WHERE name IN (
    SELECT name FROM (
        SELECT name, sum(weight_bytes) OVER (ORDER BY changed_at DESC, name) AS newer_bytes
        FROM answers WHERE state = 'done'
    ) WHERE newer_bytes > :stored_bytes
)
"""
_SWEEP = """
DELETE FROM pieces
WHERE token NOT IN (SELECT token FROM answers WHERE state IN ('running', 'done'))
"""


class SqliteAnswerStore:
    """Keeps answers in a file. Each step is one statement, so that it is one transaction."""

    timeout_seconds = FILE_TIMEOUT_SECONDS

    def __init__(
        self,
        quick: aiosqlite.Connection,
        durable: aiosqlite.Connection,
        bounds: AnswerBounds,
        clock: Callable[[], float],
    ) -> None:
        self._quick = quick
        self._durable = durable
        self._bounds = bounds
        self._clock = clock
        self._claims = 0

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        bounds: AnswerBounds = BOUNDS,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open or make the file.

        Raises:
            OSError: the folder can't be made.
            sqlite3.Error: the file can't be opened or written.
        """
        # That an answer was charged must survive a power cut; its pieces go to the disk with it.
        durable = await open_sqlite(
            path, _SCHEMA, synchronous="FULL", timeout_seconds=FILE_TIMEOUT_SECONDS
        )
        try:
            quick = await open_sqlite(
                path, _SCHEMA, synchronous="NORMAL", timeout_seconds=FILE_TIMEOUT_SECONDS
            )
        except BaseException:
            await durable.close()
            raise
        return cls(quick, durable, bounds, clock)

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, stale: KeyEntry | None
    ) -> KeyEntry:
        """See `AnswerStore`."""
        await self._prune()
        now = self._clock()
        values: dict[str, Any] = {
            "name": name,
            "fingerprint": fingerprint,
            "token": token,
            "now": now,
            "oldest": now - self._bounds.seconds,
            "stale_token": stale.token if stale else None,
            "stale_beat": stale.beat if stale else None,
        }
        while True:
            if stale is not None:
                await self._quick.execute(_LOSE, values)
            await self._quick.execute(_CLAIM, values)
            entry = await self._entry(name)
            # Another's may have been dropped in between.
            if entry is not None:
                return entry

    async def _entry(self, name: bytes) -> KeyEntry | None:
        # In one go: no other's statement on this connection may meet one that is half read, as
        # SQLite would not wait for other processes then.
        for row in await self._quick.execute_fetchall(_ENTRY, {"name": name}):
            fingerprint, token, state, charged, beat, pieces = row
            return KeyEntry(fingerprint, token, KeyState(state), bool(charged), beat, pieces)
        return None

    async def report(self, name: bytes, token: bytes, report: KeyReport) -> bool:
        """See `AnswerStore`."""
        keeps = report.state in {KeyState.RUNNING, KeyState.DONE}
        if report.pieces and keeps:
            # They count once the report is there, which says how many there are.
            rows = [(token, report.position + i, piece) for i, piece in enumerate(report.pieces)]
            # Closed where it ran: one that is forgotten here would reset the statement, which the
            # connection's thread may be using for another report.
            async with self._quick.executemany(_KEEP, rows):
                pass
        matters = report.charged or report.state is not KeyState.RUNNING
        cursor = await (self._durable if matters else self._quick).execute(
            _REPORT,
            {
                "name": name,
                "token": token,
                "state": report.state.value,
                "charged": report.charged,
                "pieces": report.position + len(report.pieces) if keeps else 0,
                "now": self._clock(),
            },
        )
        return cursor.rowcount == 1

    async def read(
        self, name: bytes, token: bytes, position: int
    ) -> tuple[KeyEntry, list[bytes]] | None:
        """See `AnswerStore`."""
        entry = await self._entry(name)
        if entry is None or entry.token != token:
            return None
        rows = await self._quick.execute_fetchall(
            "SELECT piece FROM pieces WHERE token = ? AND position >= ? AND position < ? "
            "ORDER BY position LIMIT ?",
            (token, position, entry.pieces, _READ_PIECES),
        )
        return entry, [row[0] for row in rows]

    async def drop(self, name: bytes, token: bytes) -> None:
        """See `AnswerStore`."""
        await self._quick.execute("DELETE FROM answers WHERE name = ? AND token = ?", (name, token))

    async def _prune(self) -> None:
        self._claims += 1
        if self._claims % min(_PRUNE_EVERY, self._bounds.answers):
            return
        await self._quick.execute(
            _FORGET,
            {
                "oldest": self._clock() - self._bounds.seconds,
                "answers": self._bounds.answers,
            },
        )
        await self._quick.execute(_LIGHTEN, {"stored_bytes": self._bounds.stored_bytes})
        await self._quick.execute(_SWEEP)

    async def aclose(self) -> None:
        """See `AnswerStore`."""
        await self._quick.close()
        await self._durable.close()
