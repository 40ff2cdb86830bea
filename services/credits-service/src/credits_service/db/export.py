"""Writes the journal as lines of text, a transaction each, in constant memory."""

import csv
import hashlib
import io
from collections.abc import Iterable
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.db.history import account_pages, count_transactions, history
from credits_service.db.progress import Report
from credits_service.ledger.journal import Entry, Transaction

Format = Literal["jsonl", "csv"]

_STAGE = "writing transactions"
_REPORT_EVERY = 1000
_NANOS = "_nanos"
_MICROS = "_micros"


class Export(NamedTuple):
    """What was written; `sha256` is of all its bytes."""

    accounts: int
    transactions: int
    bytes: int
    sha256: str


class WriteError(Exception):
    """The file can't be written; the message says why. What was written so far is not all."""


class ExportFile:
    """A file that is written line by line, counted and hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0

    def write(self, line: bytes) -> None:
        """Write a line.

        Raises:
            WriteError: it can't be written.
        """
        try:
            self._file.write(line)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WriteError(error.strerror or str(error)) from error
        self._digest.update(line)
        self.bytes += len(line)

    def sha256(self) -> str:
        """Return the SHA-256 of what was written so far."""
        return self._digest.hexdigest()


async def export(
    connection: AsyncConnection,
    file: BinaryIO,
    *,
    form: Format,
    user_id: str | None,
    report: Report,
) -> Export:
    """Write the journal, by account and number.

    Args:
        connection: in a transaction that sees one snapshot.
        file: where to.
        form: one JSON object a line, or CSV with a header.
        user_id: only this account's.
        report: is told how many transactions are written.

    Raises:
        WriteError: the file can't be written.
    """
    wanted = None if user_id is None else [user_id]
    total = await count_transactions(connection, wanted)
    writer = ExportFile(file)
    if form == "csv":
        writer.write(_csv_line(_COLUMNS))
    found_accounts = found = 0
    report(_STAGE, 0, total)
    async for page in account_pages(connection, wanted):
        found_accounts += len(page)
        async for transaction, entries in history(connection, [a.user_id for a in page]):
            writer.write(_line(form, _record(transaction, entries)))
            found += 1
            if found % _REPORT_EVERY == 0:
                report(_STAGE, found, total)
    report(_STAGE, found, total)
    return Export(found_accounts, found, writer.bytes, writer.sha256())


_DOCUMENTS = frozenset({"usage", "price", "metadata", "details"})
_encode = msgspec.json.Encoder().encode


def _name(field: str) -> str:
    return field.removesuffix(_NANOS).removesuffix(_MICROS)


_COLUMNS = (*(_name(field) for field in Transaction.__struct_fields__), "entries")


def _record(transaction: Transaction, entries: list[Entry]) -> dict[str, Any]:
    """Name what a transaction says as the API does; nothing is left out that its hash covers."""
    record = {
        _name(field): _value(field, getattr(transaction, field))
        for field in Transaction.__struct_fields__
    }
    record["entries"] = [
        {"leg": entry.leg, "amount": usd_from_nanos(entry.amount_nanos)} for entry in entries
    ]
    return record


def _value(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field.endswith(_NANOS):
        return usd_from_nanos(value)
    if field.endswith(_MICROS):
        return rfc3339(value)
    if field == "lots":
        return [
            {"lot_id": use.lot_id, "amount": usd_from_nanos(use.nanos), "from_hold": use.from_hold}
            for use in value
        ]
    if field == "hash":
        return value.hex()
    # Documents are written as they are stored: the hash is over their text.
    return msgspec.Raw(value.encode()) if field in _DOCUMENTS else value


def _line(form: Format, record: dict[str, Any]) -> bytes:
    if form == "jsonl":
        return _encode(record) + b"\n"
    return _csv_line(
        value if value is None or isinstance(value, str | int) else _encode(value).decode()
        for value in record.values()
    )


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue().encode()
