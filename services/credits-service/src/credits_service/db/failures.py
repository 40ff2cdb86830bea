"""What a database failure means: try again, or say that nothing can be said."""

from enum import Enum, auto

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Failure(Enum):
    """What to do about a failure.

    Attributes:
        CLASH: another process wrote the same key first; a new attempt finds its answer.
        TRANSIENT: the database asked for a retry, or the connection was lost.
        BUSY: a lock or the database took too long, or it has no room.
        UNEXPECTED: a mistake of ours.
    """

    CLASH = auto()
    TRANSIENT = auto()
    BUSY = auto()
    UNEXPECTED = auto()


_UNIQUE_VIOLATION = "23505"
# Serialisation, deadlock, a commit that may have happened, a transaction that idled too long.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "40003", "25P03"})
# Lock not available, statement cancelled by its time limit, read only, no such database (now).
_BUSY_STATES = frozenset({"55P03", "57014", "25006", "3D000", "55000"})
# Out of disk, memory or connections; failures of the system; logging in refused.
_BUSY_CLASSES = ("53", "58", "28")
# Connection exceptions and the server's own stopping or starting.
_SQLITE_UNAVAILABLE = (
    *("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL"),
    *("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY"),
)
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
    busy = state in _BUSY_STATES or state.startswith(_BUSY_CLASSES)
    if busy or _is_sqlite_unavailable(error):
        return Failure.BUSY
    return Failure.UNEXPECTED


def _is_sqlite_unique(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) and "UNIQUE constraint failed" in str(error.orig)


def _is_sqlite_unavailable(error: DBAPIError) -> bool:
    """Locked by another process for too long, disk full, file gone: SQLite's own names."""
    name = getattr(error.orig, "sqlite_errorname", "") or ""
    return name.startswith(_SQLITE_UNAVAILABLE)
