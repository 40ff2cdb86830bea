"""Brings a ledger's schema to what this version of the service expects."""

import asyncio
import random
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from credits_service.core.errors import ConfigurationError

_FOLDER = Path(__file__).parent / "migrations"
_ATTEMPTS = 10


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigurationError(
            f"The ledger was made by a newer version of the service (schema {current}). "
            "Start that version, or a later one."
        )
    command.upgrade(config, "head")


async def migrate(engine: AsyncEngine) -> None:
    """Apply the migrations that are missing, in one transaction.

    Several processes may start at once: whoever comes second collides with the first one's
    tables, tries again and finds nothing to do. That needs no advisory lock, which not every
    PostgreSQL-compatible database has.

    Raises:
        ConfigurationError: the schema is newer than this version.
        DBAPIError: the database refused, repeatedly.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade)
        except DBAPIError as error:
            if attempt == _ATTEMPTS or error.connection_invalidated:
                raise
            # Jitter against processes that collide in step; no secret depends on it.
            await asyncio.sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311
        else:
            return


def is_migrated(connection: Connection) -> bool:
    """Whether the schema is the one that this version expects."""
    head = ScriptDirectory.from_config(_config(connection)).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head
