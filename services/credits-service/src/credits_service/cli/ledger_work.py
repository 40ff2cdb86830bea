"""What the commands on the ledger's database do; apart from them, as its libraries load slowly."""

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.cli.database import (
    TARGET,
    assert_exists,
    opened,
    reading,
    run,
    settings,
    shown,
)
from credits_service.cli.failures import refused, usage
from credits_service.cli.session import Session
from credits_service.db.audit import Audit, audit
from credits_service.db.engine import SQLITE_DRIVER
from credits_service.db.exclusive import exclusive
from credits_service.db.export import Export, Format, WriteError, export
from credits_service.db.history import account_pages
from credits_service.db.key_export import KeyExport, export_keys
from credits_service.db.migrate import migrate, revisions
from credits_service.db.transfer import Transfer, transfer

T = TypeVar("T")


def verified(session: Session, user_ids: list[str] | None) -> Audit:
    """Check the ledger, or some accounts of it.

    Raises:
        CommandError: an account is unknown, or the ledger can't be read.
    """
    return run(_verify(session, user_ids))


async def _verify(session: Session, user_ids: list[str] | None) -> Audit:
    async with reading() as connection, connection.begin():
        if user_ids is not None:
            await _assert_known(connection, user_ids)
        with session.output.progress() as report:
            return await audit(connection, user_ids, report)


async def _assert_known(connection: AsyncConnection, user_ids: list[str]) -> None:
    known: set[str] = set()
    async for page in account_pages(connection, user_ids):
        known.update(account.user_id for account in page)
    unknown = sorted(set(user_ids) - known)
    if unknown:
        raise refused(f"There is no account {', '.join(unknown)}.")


def migrated() -> tuple[str | None, str | None]:
    """Migrate the ledger; return the schemas before and after.

    Raises:
        CommandError: it is in use, or newer, or can't be reached.
    """
    return run(_migrate())


async def _migrate() -> tuple[str | None, str | None]:
    url = settings().ledger()
    with exclusive(url):
        async with opened(url) as database:
            async with database.writer.connect() as connection:
                before, _head = await connection.run_sync(revisions)
            await migrate(database.writer)
            async with database.writer.connect() as connection:
                after, _head = await connection.run_sync(revisions)
            return before, after


class Moved(NamedTuple):
    """What was moved, from where and to where."""

    source: str
    target: str
    transfer: Transfer


def moved(session: Session, *, yes: bool) -> Moved:
    """Move the ledger, after asking.

    Raises:
        CommandError: it is not to be moved, or can't be; the target is as it was.
    """
    source, target = settings().ledger(), settings().target()
    if source.drivername != SQLITE_DRIVER:
        raise usage("DATABASE_URL names a PostgreSQL ledger: only an embedded one can be moved.")
    assert_exists(source)
    session.confirm(f"Move {source.database} to {shown(target)}?", yes=yes)
    done = run(_move(session, source, target))
    return Moved(str(source.database), shown(target), done)


async def _move(session: Session, source: URL, target: URL) -> Transfer:
    # The lock keeps services away that would write to what was copied already; the source's
    # transaction (IMMEDIATE) everybody else.
    with exclusive(source), session.output.progress() as report:
        async with (
            opened(source) as embedded,
            embedded.writer.connect() as here,
            here.begin(),
            opened(target, TARGET) as empty,
            empty.reader.connect() as there,
        ):
            await there.execution_options(isolation_level="READ COMMITTED")
            async with there.begin():
                return await transfer(here, there, report)


def exported(session: Session, output: Path | None, form: Format, user_id: str | None) -> Export:
    """Write the journal to standard output, or to a new file.

    Raises:
        CommandError: the file is there or can't be written, or the ledger can't be read.
    """
    return _exported(session, output, user_id, partial(export, form=form, user_id=user_id))


def exported_keys(session: Session, output: Path | None, user_id: str | None) -> KeyExport:
    """Write issued keys to standard output, or to a new file.

    Raises:
        CommandError: the file is there or can't be written, or the ledger can't be read.
    """
    return _exported(session, output, user_id, partial(export_keys, account=user_id))


def _exported(
    session: Session, output: Path | None, user_id: str | None, write: Callable[..., Awaitable[T]]
) -> T:
    if output is not None:
        return _export_to(session, output, user_id, write)
    try:
        done = run(_export(session, sys.stdout.buffer, user_id, write))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except (OSError, WriteError) as error:
        raise refused(f"Standard output can't be written: {error}") from None
    return done


def _export_to(
    session: Session, output: Path, user_id: str | None, write: Callable[..., Awaitable[T]]
) -> T:
    if output.exists():
        raise usage(f"{output} is there already. Choose another name, or remove it.")
    partial = output.with_name(f"{output.name}.partial-{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            done = run(_export(session, file, user_id, write))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(output)
    except (OSError, WriteError) as error:
        raise refused(f"{output} can't be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return done


async def _export(
    session: Session, file: BinaryIO, user_id: str | None, write: Callable[..., Awaitable[T]]
) -> T:
    async with reading() as connection, connection.begin():
        if user_id is not None:
            await _assert_known(connection, [user_id])
        with session.output.progress() as report:
            return await write(connection, file, report=report)
