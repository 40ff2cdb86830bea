"""Reads the files that are compared, plain or compressed."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from credits_service.cli.failures import usage
from credits_service.reconciliation.google_export import (
    BilledRow,
    GoogleExportError,
    billed_rows,
)
from credits_service.reconciliation.usage_log import UsageLogError, UsageRecord, record_of

_GZIP_MAGIC = b"\x1f\x8b"


def log_records(path: Path) -> Iterator[tuple[UsageRecord, bytes]]:
    """Read a usage log, record by record, each with its line.

    Raises:
        CommandError: the file or a line of it can't be read.
    """
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if not text:
                continue
            try:
                yield record_of(text), text
            except UsageLogError as error:
                raise usage(
                    f"{path}, line {number}: no record of the usage log: {error}\n"
                    "Give files that `ai-proxy-service usage export` wrote, as JSON lines."
                ) from None


def google_rows(path: Path) -> Iterator[BilledRow]:
    """Read Google's billing export.

    Raises:
        CommandError: the file can't be read, or is something else.
    """
    try:
        with (
            _opened(path) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
        ):
            yield from billed_rows(text)
    except (GoogleExportError, UnicodeDecodeError) as error:
        raise usage(f"{path} is no billing export that can be read: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if compressed else path.open("rb") as content:
            yield content  # type: ignore[misc]  # a gzip file is one, but is not declared so
    except (OSError, EOFError, zlib.error) as error:
        raise usage(f"{path} can't be read: {error}") from None
