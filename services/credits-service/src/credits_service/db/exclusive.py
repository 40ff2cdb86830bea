"""One process writes an SQLite ledger: it holds a lock for as long as it lives."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL

from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import SQLITE_DRIVER, sqlite_file

_SUFFIX = ".lock"


@contextmanager
def exclusive(url: URL) -> Iterator[None]:
    """Be the only process that writes a ledger, if it is an SQLite file.

    The lock is on a file beside the ledger, so those who only read are not kept out. The
    system ends it with the process, whatever the process died of; the empty file stays.
    PostgreSQL is written by any number of processes: nothing is locked there.

    Raises:
        ConfigurationError: another process has the lock, or it can't be taken.
    """
    if url.drivername != SQLITE_DRIVER:
        yield
        return
    file = sqlite_file(url)
    lock = file.with_name(file.name + _SUFFIX)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The ledger {file} can't be locked for writing: {lock} can't be opened "
            f"({error.strerror}). Let this user write to that folder."
        ) from None
    try:
        _lock(descriptor, str(file))
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, file: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"The ledger {file} is in use by another process: an SQLite ledger is written by one. "
            "End that one first; for several, use PostgreSQL: "
            "DATABASE_URL=postgresql://user:password@host:5432/name."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The ledger {file} can't be locked for writing ({error.strerror}). Put DATA_DIR on a "
            "local disk, or use PostgreSQL: DATABASE_URL=postgresql://user:password@host:5432/name."
        ) from None
