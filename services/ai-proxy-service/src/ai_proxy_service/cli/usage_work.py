"""What `ai-proxy-service usage` does; apart from it, as the database's libraries load slowly."""

import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from ai_proxy_service.cli import output
from ai_proxy_service.cli.output import CommandError
from ai_proxy_service.core.usage_export import Format, header, line
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_log import FILE_NAME
from ai_proxy_service.services.usage_store import UsageStore
from ai_proxy_service.settings import UsageLogSettings
from service_kit.settings import load_settings

_DATABASE_FAILURES = (SQLAlchemyError, TimeoutError, ConnectionError, socket.gaierror)


async def exported(from_micros: int, to_micros: int, form: Format, file: Path | None) -> int:
    """Write the records of a period to a new file, or to standard output; return how many.

    Raises:
        CommandError: the log can't be read, or the file can't be written.
    """
    with _opened_output(file) as lines:
        async with _opened_log() as store:
            return await _export(store, lines, form, from_micros, to_micros)


async def _export(
    store: UsageStore, lines: BinaryIO, form: Format, from_micros: int, to_micros: int
) -> int:
    written = 0
    with output.progress("writing records") as report:
        total = await store.count(from_micros, to_micros)
        lines.write(header(form))
        async for page in store.pages(from_micros, to_micros):
            lines.write(b"".join([line(form, record) for record in page]))
            written += len(page)
            report(written, total)
    lines.flush()
    return written


@asynccontextmanager
async def _opened_log() -> AsyncIterator[UsageStore]:
    settings = load_settings(UsageLogSettings)
    url, path = settings.usage_log_url.get_secret_value(), settings.data_dir / FILE_NAME
    if not url and not path.exists():
        raise CommandError(f"There is no usage log at {path}. Set DATA_DIR or USAGE_LOG_URL.")
    store = UsageStore(open_usage_database(url, path))
    try:
        yield store
    except BrokenPipeError:
        raise  # of the output
    except _DATABASE_FAILURES as error:
        # The first line says it; others quote the statement.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CommandError(f"The usage log can't be read: {reason}") from error
    finally:
        await store.aclose()


@contextmanager
def _opened_output(file: Path | None) -> Iterator[BinaryIO]:
    if file is None:
        yield sys.stdout.buffer
        return
    if file.exists():
        raise CommandError(f"{file} is there already. Choose another name, or remove it.")
    partial = file.with_name(f"{file.name}.partial-{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as lines:
            yield lines
            lines.flush()
            os.fsync(lines.fileno())
        partial.rename(file)
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
