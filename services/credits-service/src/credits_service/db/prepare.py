"""Before serving: the database is reached and migrated, or one line says why not."""

import asyncio
import time
from dataclasses import replace

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import DatabaseLimits, open_database, shown_url
from credits_service.db.failures import ConnectTimeoutError, Failure, classify
from credits_service.db.migrate import migrate
from service_kit.logging import get_logger

_log = get_logger(__name__)

_PAUSE_SECONDS = 0.5
_MIGRATION_SECONDS = 86_400.0


async def prepare(url: URL, limits: DatabaseLimits, *, wait_seconds: float) -> None:
    """Reach the database, waiting for one that is still starting, and migrate it.

    Raises:
        ConfigurationError: it can't be reached, or refuses; the message says what to check.
    """
    give_up_at = time.monotonic() + wait_seconds
    # A large ledger takes its time to migrate; what is waited for is bounded all the same.
    patient = replace(limits, statement_seconds=_MIGRATION_SECONDS)
    while True:
        database = open_database(url, patient)
        try:
            await migrate(database.writer)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not _may_pass(error) or time.monotonic() >= give_up_at:
                raise ConfigurationError(_explain(url, error)) from error
            _log.warning("waiting_for_database", database=shown_url(url), error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return
        finally:
            await database.close()


def _may_pass(error: Exception) -> bool:
    return classify(error) is Failure.TRANSIENT or isinstance(error, ConnectTimeoutError)


def _explain(url: URL, error: Exception) -> str:
    reason = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return (
        f"The ledger's database {shown_url(url)} can't be used: {reason}. "
        "Check that it runs and that DATABASE_URL is right; empty, it means an embedded "
        "SQLite ledger under DATA_DIR."
    )
