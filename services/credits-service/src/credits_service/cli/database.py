"""Opens the ledger's database for a command; what goes wrong is told as the command's error."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.cli.failures import CommandError, ExitCode, refused, usage
from credits_service.cli.settings import load
from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import (
    SQLITE_DRIVER,
    Database,
    database_url,
    open_database,
    shown_url,
)
from credits_service.db.limits import AUDIT_STATEMENT_SECONDS
from credits_service.db.migrate import revisions
from credits_service.db.transfer import TransferError
from credits_service.settings import LedgerSettings

T = TypeVar("T")

TARGET = "TARGET_DATABASE_URL"


class DatabaseSettings(LedgerSettings):
    """Where the ledger is, and where it moves to: passwords do not belong in arguments."""

    target_database_url: SecretStr = SecretStr("")

    def ledger(self) -> URL:
        """Return where the ledger is.

        Raises:
            CommandError: `DATABASE_URL` can't be used.
        """
        try:
            return self.ledger_url()
        except ConfigurationError as error:
            raise usage(str(error)) from None

    def target(self) -> URL:
        """Return the PostgreSQL database that a ledger is moved to.

        Raises:
            CommandError: none is given, or it is no such URL.
        """
        text = self.target_database_url.get_secret_value()
        if not text:
            raise usage(
                f"{TARGET} is not set. Set it to the empty database that the ledger moves to: "
                "postgresql://user:password@host:5432/name"
            )
        try:
            url = database_url(text)
        except ConfigurationError as error:
            raise usage(str(error).replace("DATABASE_URL", TARGET)) from None
        if url.drivername == SQLITE_DRIVER:
            raise usage(f"{TARGET} must name a PostgreSQL database.")
        return url


def settings() -> DatabaseSettings:
    """Read the settings.

    Raises:
        CommandError: one can't be used.
    """
    return load(DatabaseSettings)


@asynccontextmanager
async def reading() -> AsyncIterator[AsyncConnection]:
    """Open the ledger for reading, if it has the schema that this version reads."""
    url = settings().ledger()
    assert_exists(url)
    async with opened(url) as database, database.reader.connect() as connection:
        current, head = await connection.run_sync(revisions)
        if current != head:
            raise refused(
                f"The ledger has schema {current or 'none'}, this version reads schema {head}. "
                "Run `credits migrate`, or use the version of the command that fits."
            )
        await connection.rollback()
        yield connection


@asynccontextmanager
async def opened(url: URL, setting: str = "DATABASE_URL") -> AsyncIterator[Database]:
    """Open a database; failures name it, and the setting that it comes from."""
    limits = replace(
        settings().database_limits(), pool_size=1, statement_seconds=AUDIT_STATEMENT_SECONDS
    )
    database = open_database(url, limits)
    try:
        yield database
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        reason = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
        raise CommandError(
            f"The database {shown(url)} can't be used: {reason}\n"
            f"Check that it runs, and {setting}.",
            ExitCode.UNKNOWN,
        ) from None
    finally:
        await database.close()


def assert_exists(url: URL) -> None:
    """Refuse where there is no ledger: opening an SQLite file would make an empty one.

    Raises:
        CommandError: there is none.
    """
    if url.drivername == SQLITE_DRIVER and not Path(url.database or "").is_file():
        raise CommandError(
            f"There is no ledger at {url.database}. Check DATABASE_URL and DATA_DIR, and the "
            "folder that this command runs in.",
            ExitCode.UNKNOWN,
        )


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run database work to its end.

    Raises:
        CommandError: whatever went wrong.
    """
    try:
        return asyncio.run(work)
    except (ConfigurationError, TransferError) as error:
        raise refused(str(error)) from None


def shown(url: URL) -> str:
    """Write a URL as the setting names it: without its password, and without the driver."""
    return shown_url(url.set(drivername=url.get_backend_name()))
