"""Empty ledgers on each engine; most tests take the one of the `ledger_url` fixture."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.databases import postgres_database, require_postgres

ENGINES = ("sqlite", "postgresql")


@contextmanager
def empty_ledger(engine: str, folder: Path) -> Iterator[str]:
    """Yield the `DATABASE_URL` of an empty ledger on an engine; see `require_postgres`."""
    if engine == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
        return
    require_postgres()
    with postgres_database() as url:
        yield url
