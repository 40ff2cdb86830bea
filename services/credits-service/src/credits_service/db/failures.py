"""What a database failure means: try again, or say that nothing can be said."""

from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Failure(Enum):
    """What to do about a failure.

    Attributes:
        CLASH: another process wrote the same key first; a new attempt finds its answer.
        TRANSIENT: the database asked for a retry, or the connection was lost.
        BUSY: a lock or the database took too long; nothing was changed.
        UNEXPECTED: a mistake of ours.
    """

    CLASH = auto()
    TRANSIENT = auto()
    BUSY = auto()
    UNEXPECTED = auto()


_UNIQUE_VIOLATION = "23505"
_TRANSIENT_STATES = frozenset({"40001", "40P01"})
# Lock not available, statement cancelled by its time limit, too many connections, read only.
_BUSY_STATES = frozenset({"55P03", "57014", "53300", "25006"})
# Connection exceptions and the server's own stopping or starting.
_LOST_CLASSES = ("08", "57P")


def classify(error: BaseException) -> Failure:
    """Tell what a failure of a transaction means."""
    if isinstance(error, DBAPIError):
        return _classify_refusal(error)
    if isinstance(error, PoolTimeoutError):
        return Failure.BUSY
    if isinstance(error, OSError | TimeoutError):
        return Failure.TRANSIENT
    return Failure.UNEXPECTED


def _classify_refusal(error: DBAPIError) -> Failure:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == _UNIQUE_VIOLATION or _is_sqlite_unique(error):
        return Failure.CLASH
    lost = error.connection_invalidated or state.startswith(_LOST_CLASSES)
    if lost or state in _TRANSIENT_STATES:
        return Failure.TRANSIENT
    if state in _BUSY_STATES or _is_sqlite_unavailable(error):
        return Failure.BUSY
    return Failure.UNEXPECTED


def _is_sqlite_unique(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) and "UNIQUE constraint failed" in str(error.orig)


def _is_sqlite_unavailable(error: DBAPIError) -> bool:
    """Locked by another process for too long, disk full, file gone: SQLite's own names."""
    name = getattr(error.orig, "sqlite_errorname", "") or ""
    return name.startswith(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
    )
