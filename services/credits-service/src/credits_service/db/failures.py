"""What a database failure means: try again, or say that nothing can be said."""

import sqlite3
from enum import Enum, auto

import asyncpg
from sqlalchemy import ExceptionContext
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class ConnectTimeoutError(TimeoutError):
    """No server answered in the time that opening a connection may take."""

    def __init__(self) -> None:
        super().__init__("no answer in time")


class NoWritableServerError(ConnectionError):
    """Those servers that answer can't be written to: standbys, of which none is promoted yet."""

    def __init__(self) -> None:
        super().__init__("no server can be written to")


class UnreplicatedCommitError(Exception):
    """A commit is done on this server, but its synchronous standby has not confirmed it."""


class Failure(Enum):
    """What to do about a failure.

    Attributes:
        CLASH: another process wrote the same key first; a new attempt finds its answer.
        TRANSIENT: the database asked for a retry, or the connection was lost.
        BUSY: a lock or the database took too long, or it has no room.
        UNREPLICATED: done, unless the standby takes over; the wait for it took too long.
        UNEXPECTED: a mistake of ours.
    """

    CLASH = auto()
    TRANSIENT = auto()
    BUSY = auto()
    UNREPLICATED = auto()
    UNEXPECTED = auto()


_ASYNCPG_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)
_UNIQUE_VIOLATION = "23505"
_READ_ONLY = "25006"
# Serialisation, deadlock, a commit that may have happened, a transaction that idled too long.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "40003", "25P03"})
# Lock not available, statement cancelled by its time limit, read only, no such database (now).
_BUSY_STATES = frozenset({"55P03", "57014", _READ_ONLY, "3D000", "55000"})
# Out of disk, memory or connections; failures of the system; logging in refused.
_BUSY_CLASSES = ("53", "58", "28")
# Connection exceptions and the server's own stopping or starting.
_LOST_CLASSES = ("08", "57P")
_SQLITE_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
# The file is gone, was replaced or can't be read or written.
_SQLITE_FILE_FAILED = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
_SQLITE_UNAVAILABLE = (*_SQLITE_LOCKED, "SQLITE_FULL", *_SQLITE_FILE_FAILED)


def classify(error: BaseException) -> Failure:
    """Tell what a failure of a transaction means, from SQLAlchemy or right from a driver."""
    if isinstance(error, DBAPIError):
        return _classify_refusal(error.orig, is_lost=error.connection_invalidated)
    if isinstance(error, asyncpg.PostgresError):
        return _classify_refusal(error, is_lost=False)
    # Opening a connection took all the time there is: another attempt would double it.
    if isinstance(error, PoolTimeoutError | ConnectTimeoutError):
        return Failure.BUSY
    if isinstance(error, OSError | TimeoutError) or _is_out_of_step(error):
        return Failure.TRANSIENT
    if isinstance(error, UnreplicatedCommitError):
        return Failure.UNREPLICATED
    return Failure.UNEXPECTED


def _classify_refusal(refusal: BaseException | None, *, is_lost: bool) -> Failure:
    state = _sqlstate(refusal)
    if state == _UNIQUE_VIOLATION or _is_sqlite_unique(refusal):
        return Failure.CLASH
    if state in _BUSY_STATES or state.startswith(_BUSY_CLASSES) or _is_sqlite(refusal):
        return Failure.BUSY
    is_lost = is_lost or state.startswith(_LOST_CLASSES) or _is_out_of_step(refusal)
    if is_lost or state in _TRANSIENT_STATES or _is_stale_plan(refusal):
        return Failure.TRANSIENT
    return Failure.UNEXPECTED


def _is_out_of_step(error: BaseException | None) -> bool:
    """Whether asyncpg has lost the thread: the server's last word came between two statements."""
    if isinstance(error, AsyncAdapt_asyncpg_dbapi.InternalClientError):
        return True
    is_mistake = isinstance(error, ValueError)  # such as a parameter of the wrong type
    return isinstance(error, _ASYNCPG_CLIENT_ERRORS) and not is_mistake


def _sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


def _is_stale_plan(error: BaseException | None) -> bool:
    """Another process has changed a table: prepared statements are made anew."""
    return isinstance(error, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError)


def _is_sqlite_unique(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.IntegrityError) and "UNIQUE constraint failed" in str(error)


def _is_sqlite(error: BaseException | None, names: tuple[str, ...] = _SQLITE_UNAVAILABLE) -> bool:
    """Whether SQLite gives one of these reasons, by its own names."""
    return (getattr(error, "sqlite_errorname", None) or "").startswith(names)


def drop_useless_connection(context: ExceptionContext) -> None:
    """Close a connection after a failure (SQLAlchemy's event `handle_error`) if need be."""
    if leaves_connection_useless(context.original_exception):
        context.is_disconnect = True


def leaves_connection_useless(error: BaseException) -> bool:
    """Whether a new connection may do better than this one, though this one is open.

    The peer is silent, or nobody knows what it will say next; its server has become a standby,
    while another one can be written to; the SQLite file that it has open is not the one under
    that name any more.
    """
    if isinstance(error, TimeoutError) or _sqlstate(error) == _READ_ONLY or _is_out_of_step(error):
        return True
    return _is_sqlite(error, _SQLITE_FILE_FAILED)
