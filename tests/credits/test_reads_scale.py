"""Every reading query finds its rows by an index, on both engines; nothing is scanned."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import event, text

from credits_service.db import periods
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate
from credits_service.db.queries import LedgerQueries

USER = "ann"
Read = Callable[[LedgerQueries], Awaitable[Any]]


async def _period(queries: LedgerQueries) -> None:
    async with queries.connection() as connection:
        last = await periods.last_seq(connection, USER)
        assert last == 1
        span = await periods.span_of(connection, USER, last, 0, 100)
        assert span == periods.Span(0, 1)
        await periods.balance_after(connection, USER, 1)
        await periods.totals_of(connection, USER, span)
        await periods.page_of(connection, USER, span, 50)


_READS: dict[str, Read] = {
    "account": lambda queries: queries.account(USER),
    "accounts": lambda queries: queries.accounts(None, 50),
    "hold": lambda queries: queries.hold("h"),
    "holds": lambda queries: queries.holds(USER, before="x", limit=50, only_active=False),
    "active holds": lambda queries: queries.holds(USER, before="x", limit=50, only_active=True),
    "page": lambda queries: queries.transactions(USER, cursor=None, limit=50, ascending=False),
    "kind": lambda queries: queries.transactions(
        USER, cursor=None, limit=50, ascending=True, kind="topup"
    ),
    "transaction": lambda queries: queries.transaction("t"),
    "statement and balance at a moment": _period,
}
_ROWS = """
INSERT INTO accounts (user_id, status, balance_nanos, held_nanos, shortfall_nanos, seq,
    head_hash, created_at_micros, updated_at_micros)
VALUES ('ann', 'open', 1, 1, 0, 1, '', 1, 1);
INSERT INTO transactions (id, user_id, seq, kind, amount_nanos, balance_after_nanos,
    held_after_nanos, booked_at_micros, description, lots, settled_before_nanos,
    shortfall_nanos, principal, request_id, hash)
VALUES ('t', 'ann', 1, 'topup', 1, 1, 0, 1, '', '[]', 0, 0, 'p', 'r', '');
INSERT INTO holds (id, user_id, status, amount_nanos, captured_nanos, progress_nanos,
    settled_nanos, used_nanos, lots, late_captured, created_at_micros, updated_at_micros,
    expires_at_micros)
VALUES ('h', 'ann', 'active', 1, 0, 0, 0, 0, '[]', false, 1, 1, 9)
"""
# An SQLite plan's line that reads a table from end to end without any index.
_SQLITE_SCAN = re.compile(r"SCAN (?:transactions|entries|holds|lots)\b")


def test_a_read_scans_nothing(ledger_url: str) -> None:
    plans = asyncio.run(_plans(ledger_url))
    assert {name for name, _, _ in plans} == set(_READS)
    for name, statement, plan in plans:
        shown = f"{name}: {statement}\n{plan}"
        assert "Seq Scan" not in plan, shown
        assert not _SQLITE_SCAN.search(plan), shown
        assert re.search(r"Index|USING (?:COVERING )?INDEX", plan), shown


async def _plans(url: str) -> list[tuple[str, str, str]]:
    """Return each read's name, each statement that it sends, and the engine's plan for it."""
    database = open_database(database_url(url), DatabaseLimits())
    try:
        await migrate(database.writer)
        async with database.writer.begin() as connection:
            for row in _ROWS.split(";"):
                await connection.execute(text(row))
        sent: list[tuple[str, str, Any]] = []
        reading = ""

        @event.listens_for(database.reader.sync_engine, "before_cursor_execute")
        def note(
            _connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any
        ) -> None:
            sent.append((reading, statement, parameters))

        queries = LedgerQueries(database, lambda: 5)
        for reading, read in _READS.items():  # noqa: B007 - `note` reads the name
            await read(queries)
        asked = list(sent)
        found: list[tuple[str, str, str]] = []
        async with database.reader.connect() as connection:
            if not database.is_sqlite:
                # A table of one row is scanned for being small: what counts is that it need
                # not be when it is large.
                await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
            for name, statement, parameters in asked:
                if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
                    continue
                lines = await connection.exec_driver_sql(explain + statement, parameters)
                found.append((name, statement, "\n".join(str(line[-1]) for line in lines)))
        return found
    finally:
        await database.close()
