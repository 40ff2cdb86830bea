"""Before serving: the database is reached and migrated, or one line says why not."""

import asyncio
import time

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import DatabaseLimits, open_database
from credits_service.db.failures import Failure, classify
from credits_service.db.migrate import migrate
from service_kit.logging import get_logger

_log = get_logger(__name__)

_PAUSE_SECONDS = 0.5


async def prepare(url: URL, limits: DatabaseLimits, *, wait_seconds: float) -> None:
    """Reach the database, waiting for one that is still starting, and migrate it.

    Raises:
        ConfigurationError: it can't be reached, or refuses; the message says what to check.
    """
    give_up_at = time.monotonic() + wait_seconds
    while True:
        database = open_database(url, limits)
        try:
            await migrate(database.writer)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if classify(error) is not Failure.TRANSIENT or time.monotonic() >= give_up_at:
                raise ConfigurationError(_explain(url, error)) from error
            _log.warning("waiting_for_database", database=_shown(url), error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return
        finally:
            await database.close()


def _shown(url: URL) -> str:
    """Write a URL without its password, which may also stand in its query."""
    return url.set(query={}).render_as_string()


def _explain(url: URL, error: Exception) -> str:
    reason = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return (
        f"The ledger's database {_shown(url)} can't be used: {reason}. "
        "Check that it runs and that DATABASE_URL is right; empty, it means an embedded "
        "SQLite ledger under DATA_DIR."
    )
