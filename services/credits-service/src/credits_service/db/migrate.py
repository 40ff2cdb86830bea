"""Brings a ledger's schema to what this version of the service expects."""

import asyncio
import random
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from credits_service.core.errors import ConfigurationError

_FOLDER = Path(__file__).parent / "migrations"
_ATTEMPTS = 10


def config_for(connection: Connection) -> Config:
    """Return Alembic's configuration for work on a connection."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def revisions(connection: Connection) -> tuple[str | None, str | None]:
    """Return the schema that the ledger has, if any, and the one that this version expects."""
    head = ScriptDirectory.from_config(config_for(connection)).get_current_head()
    return MigrationContext.configure(connection).get_current_revision(), head


def upgrade(connection: Connection) -> None:
    """Apply the migrations that are missing, in the connection's transaction.

    Raises:
        ConfigurationError: the schema is newer than this version.
    """
    config = config_for(connection)
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
                if connection.dialect.name == "postgresql":
                    # The writer is offered neither, and a migration may look at whole tables.
                    await connection.execute(text("SET LOCAL enable_seqscan = on"))
                    await connection.execute(text("SET LOCAL enable_bitmapscan = on"))
                await connection.run_sync(upgrade)
        except DBAPIError as error:
            if attempt == _ATTEMPTS or error.connection_invalidated:
                raise
            # Jitter against processes that collide in step; no secret depends on it.
            await asyncio.sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311
        else:
            return


def is_migrated(connection: Connection) -> bool:
    """Whether the schema is the one that this version expects."""
    current, head = revisions(connection)
    return current == head
