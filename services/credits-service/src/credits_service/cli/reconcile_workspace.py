"""Records and charges of any number, brought together by key: in a temporary SQLite file."""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from credits_service.reconciliation.ledger_charges import LedgerCharge
from credits_service.reconciliation.usage_log import UsageRecord, record_of

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE records (key TEXT, hold_id TEXT, transaction_id TEXT, body BLOB);
CREATE TABLE charges (key TEXT, hold_id TEXT, transaction_id TEXT PRIMARY KEY, body BLOB);
CREATE TABLE expired_holds (hold_id TEXT, body BLOB);
"""
_INDEXES = """
CREATE INDEX record_keys ON records (key);
CREATE INDEX record_holds ON records (hold_id);
CREATE INDEX charge_keys ON charges (key, transaction_id);
CREATE INDEX charge_holds ON charges (hold_id);
"""
_GROUPS = """
SELECT key, 0, '', body FROM records
UNION ALL SELECT key, 1, transaction_id, body FROM charges
ORDER BY 1, 2, 3
"""
_UNMATCHED = """
SELECT DISTINCT transaction_id FROM records
WHERE transaction_id > ? AND NOT EXISTS (
    SELECT 1 FROM charges WHERE charges.transaction_id = records.transaction_id)
ORDER BY transaction_id LIMIT ?
"""
_EXPIRED = """
SELECT body, (SELECT body FROM records WHERE records.hold_id = expired_holds.hold_id LIMIT 1)
FROM expired_holds
WHERE NOT EXISTS (SELECT 1 FROM charges WHERE charges.hold_id = expired_holds.hold_id)
"""

_encode = msgspec.msgpack.Encoder().encode
_charge = msgspec.msgpack.Decoder(LedgerCharge).decode


class Group(NamedTuple):
    """All that is known under one billing key."""

    records: list[UsageRecord]
    charges: list[LedgerCharge]


class Workspace:
    """Keeps what was read until it is compared.

    Args:
        connection: to an empty database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_SCHEMA)

    def add_record(self, record: UsageRecord, line: bytes) -> None:
        """Keep a record, as the line that it was read from."""
        self._connection.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            (record.billing_key, record.hold_id, record.transaction_id, line),
        )

    def add_charge(self, charge: LedgerCharge) -> None:
        """Keep a charge of the proxy, or that of an expired hold."""
        if charge.origin == "expired_hold":
            self._connection.execute(
                "INSERT INTO expired_holds VALUES (?, ?)", (charge.hold_id, _encode(charge))
            )
            return
        self._connection.execute(
            "INSERT INTO charges VALUES (?, ?, ?, ?)",
            (charge.key, charge.hold_id, charge.transaction_id, _encode(charge)),
        )

    def unmatched_transaction_ids(self, count: int) -> Iterator[list[str]]:
        """Yield the transactions that records name but no charge is kept of, some at a time."""
        after = ""
        self._connection.execute("CREATE INDEX record_transactions ON records (transaction_id)")
        while ids := [
            transaction_id
            for (transaction_id,) in self._connection.execute(_UNMATCHED, (after, count))
        ]:
            yield ids
            after = ids[-1]

    def groups(self) -> Iterator[Group]:
        """Yield what belongs together, by key."""
        self._connection.executescript(_INDEXES)
        rows = self._connection.execute(_GROUPS)
        for _key, group in groupby(rows, key=itemgetter(0)):
            found = Group([], [])
            for _, is_charge, _, body in group:
                if is_charge:
                    found.charges.append(_charge(body))
                else:
                    found.records.append(record_of(body))
            yield found

    def unsettled_holds(self) -> Iterable[tuple[LedgerCharge, UsageRecord | None]]:
        """Yield the charges of expired holds that were never settled, with what the log knows."""
        for body, line in self._connection.execute(_EXPIRED):
            yield _charge(body), None if line is None else record_of(line)


@contextmanager
def workspace() -> Iterator[Workspace]:
    """Make a workspace, and remove it at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="reconcile-") as folder,
        closing(sqlite3.connect(Path(folder) / "work.sqlite3")) as connection,
    ):
        yield Workspace(connection)
