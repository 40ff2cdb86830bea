"""What a failure means does not depend on whether it came through SQLAlchemy."""

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError

from credits_service.db.failures import (
    ConnectTimeoutError,
    Failure,
    NoWritableServerError,
    UnreplicatedCommitError,
    classify,
)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.UniqueViolationError("x"), Failure.CLASH),
        (asyncpg.DeadlockDetectedError("x"), Failure.TRANSIENT),
        (asyncpg.AdminShutdownError("x"), Failure.TRANSIENT),
        (asyncpg.ConnectionDoesNotExistError("x"), Failure.TRANSIENT),
        (asyncpg.InternalClientError("cannot switch to state 21"), Failure.TRANSIENT),
        (asyncpg.InterfaceError("connection is closed"), Failure.TRANSIENT),
        (NoWritableServerError(), Failure.TRANSIENT),
        (ConnectionRefusedError(), Failure.TRANSIENT),
        (TimeoutError(), Failure.TRANSIENT),
        (asyncpg.LockNotAvailableError("x"), Failure.BUSY),
        (asyncpg.ReadOnlySQLTransactionError("x"), Failure.BUSY),
        (asyncpg.DiskFullError("x"), Failure.BUSY),
        (asyncpg.TooManyConnectionsError("x"), Failure.BUSY),
        (ConnectTimeoutError(), Failure.BUSY),
        (UnreplicatedCommitError(), Failure.UNREPLICATED),
        (asyncpg.DataError("a parameter of the wrong type"), Failure.UNEXPECTED),
        (asyncpg.CheckViolationError("x"), Failure.UNEXPECTED),
        (asyncpg.UndefinedColumnError("x"), Failure.UNEXPECTED),
        (ZeroDivisionError(), Failure.UNEXPECTED),
    ],
)
def test_meaning(error: Exception, meaning: Failure) -> None:
    assert classify(error) is meaning
    if isinstance(error, asyncpg.PostgresError):
        translated = AsyncAdapt_asyncpg_dbapi.Error("x", error)  # type: ignore[no-untyped-call]  # SQLAlchemy's is untyped
        assert classify(DBAPIError("SELECT 1", None, translated)) is meaning
