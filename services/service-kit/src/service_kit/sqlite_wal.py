"""SQLite's write-ahead log, switched on while other processes may be doing the same."""

import sqlite3
import time
from typing import Protocol

_PAUSE_SECONDS = 0.01
# The lower byte of an extended code is the error, the rest tells how it came about.
_PRIMARY = 0xFF


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...


def use_wal(cursor: _Cursor, *, timeout_seconds: float) -> None:
    """Switch a database file to its write-ahead log; the file remembers it.

    To switch, a reader becomes the only writer. Two that try it at once would wait for each
    other, so SQLite refuses one of them at once, whatever its busy timeout (`sqlite3_busy_handler`
    in its C interface says so): the workers of a service that make their first file together.

    Args:
        cursor: of a connection that is in no transaction.
        timeout_seconds: how long others may keep the file.

    Raises:
        sqlite3.OperationalError: they kept it longer, or it can't be written.
    """
    until = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
