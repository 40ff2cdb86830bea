"""Writes issued keys as lines of text, a key each with all that happened to it.

Never their digests: only moving the ledger takes those along.
"""

from collections.abc import AsyncIterator
from typing import Any, BinaryIO, NamedTuple

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.moments import moment_or_none, rfc3339
from credits_service.db.bulk import members
from credits_service.db.export import ExportFile
from credits_service.db.key_rows import (
    EVENT_COLUMNS,
    KEY_COLUMNS,
    key_from,
    records_from,
    secrets_query,
)
from credits_service.db.progress import Report
from credits_service.db.tables import issued_keys, key_events
from credits_service.keys.rules import shown_name, shown_value
from credits_service.keys.state import KeyEvent, KeyRecord, KeySecret

_STAGE = "writing keys"
_KEYS_PER_PAGE = 200
_encode = msgspec.json.Encoder().encode


class KeyExport(NamedTuple):
    """What was written; `sha256` is of all its bytes."""

    keys: int
    events: int
    bytes: int
    sha256: str


async def export_keys(
    connection: AsyncConnection, file: BinaryIO, *, account: str | None, report: Report
) -> KeyExport:
    """Write issued keys, oldest first, revoked ones as well.

    Args:
        connection: in a transaction that sees one snapshot.
        file: where to.
        account: only this one's.
        report: is told how many keys are written.

    Raises:
        WriteError: the file can't be written.
    """
    count = select(func.count()).select_from(issued_keys)
    if account is not None:
        count = count.where(issued_keys.c.account == account)
    total = await connection.scalar(count)
    writer = ExportFile(file)
    found_keys = found_events = 0
    async for page in _pages(connection, account):
        for record in page:
            events = await _events(connection, record.key.id)
            writer.write(_encode(_line(record, events)) + b"\n")
            found_events += len(events)
        found_keys += len(page)
        report(_STAGE, found_keys, total)
    return KeyExport(found_keys, found_events, writer.bytes, writer.sha256())


async def _pages(
    connection: AsyncConnection, account: str | None
) -> AsyncIterator[list[KeyRecord]]:
    query = select(*KEY_COLUMNS).order_by(issued_keys.c.id).limit(_KEYS_PER_PAGE)
    if account is not None:
        query = query.where(issued_keys.c.account == account)
    dialect = connection.dialect.name
    after = ""
    while True:
        found = await connection.execute(query.where(issued_keys.c.id > after))
        keys = [key_from(row) for row in found]
        if not keys:
            return
        ids = members((key.id for key in keys), dialect)
        yield records_from(keys, await connection.execute(secrets_query(dialect), {"ids": ids}))
        after = keys[-1].id


async def _events(connection: AsyncConnection, key_id: str) -> list[KeyEvent]:
    query = select(*EVENT_COLUMNS).where(key_events.c.key_id == key_id).order_by(key_events.c.seq)
    return [KeyEvent(*row) for row in await connection.execute(query)]


def _line(record: KeyRecord, events: list[KeyEvent]) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record.key)
    fields["key_id"] = fields.pop("id")
    return {
        **{shown_name(name): shown_value(name, value) for name, value in fields.items()},
        "secrets": [_secret(secret) for secret in record.secrets],
        "events": [_event(event) for event in events],
    }


def _secret(secret: KeySecret) -> dict[str, Any]:
    return {
        "prefix": secret.prefix,
        "last_four": secret.last_four,
        "created_at": rfc3339(secret.created_at_micros),
        "ends_at": moment_or_none(secret.ends_at_micros),
    }


def _event(event: KeyEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "kind": event.kind,
        "details": msgspec.Raw(event.details.encode()),
        "principal": event.principal,
        "request_id": event.request_id,
        "happened_at": rfc3339(event.happened_at_micros),
    }
