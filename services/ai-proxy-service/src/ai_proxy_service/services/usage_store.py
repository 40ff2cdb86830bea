"""Records of the usage log in its database."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from ai_proxy_service.core.order import answer_id_of, completion_ids
from ai_proxy_service.core.pricing import LineItem
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome
from ai_proxy_service.services.usage_database import UsageDatabase
from ai_proxy_service.services.usage_tables import charges, outcomes, prepare

_PREPARE_TRIES = 5
_PAGE = 1000
_encode = msgspec.json.Encoder().encode
_usage_decoder = msgspec.json.Decoder(dict[str, int])
_items_decoder = msgspec.json.Decoder(tuple[LineItem, ...])
# What a late outcome tells anew of a record.
_LATE = ("status", "charged_nanos", "shortfall_nanos", "transaction_id")


class UsageStore:
    """Writes, finds, lists and forgets records. Each call is one transaction."""

    def __init__(self, database: UsageDatabase) -> None:
        self._database = database

    async def prepare(self) -> None:
        """Make the tables that are not there yet; several processes may do so at once.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: as every method here: the database failed.
        """
        for _ in range(_PREPARE_TRIES - 1):
            try:
                return await self._database.run(prepare)
            except DatabaseError:
                # Another process was faster, and has made them by now.
                continue
        return await self._database.run(prepare)

    async def write(self, records: Sequence[ChargeRecord], late: Sequence[LateOutcome]) -> None:
        """Keep records and outcomes; those that are there already stay as they are."""
        rows = [_row(record) for record in records]
        late_rows = [msgspec.structs.asdict(outcome) for outcome in late]

        def work(connection: Connection) -> None:
            _insert(connection, charges, rows)
            _insert(connection, outcomes, late_rows)

        await self._database.run(work)

    async def find(
        self, asked_id: str, name: str, account: str | None = None
    ) -> list[ChargeRecord]:
        """Return the charges of one answer.

        Args:
            asked_id: a completion id of it, or its request's; of a request id that a client
                used again, the latest answer is meant.
            name: of the key whose holder asks; what they may not see is left out.
            account: whose charges they may see besides the key's own; None for `name`'s.
        """
        visible = or_(charges.c.key_name == name, charges.c.account == (account or name))
        latest = (
            select(charges.c.completion_id)
            .where(charges.c.request_id == asked_id, visible)
            .order_by(charges.c.ended_at_micros.desc())
            .limit(1)
        )

        def work(connection: Connection) -> list[ChargeRecord]:
            found = connection.execute(latest).scalar()
            ids = completion_ids(answer_id_of(found or asked_id))
            query = _records().where(charges.c.completion_id.in_(ids), visible)
            return _fetch(connection, query)

        return await self._database.read(work)

    async def count(self, from_micros: int, to_micros: int) -> int:
        """Return how many records `pages` gives."""
        query = select(func.count()).select_from(charges).where(_ended(from_micros, to_micros))
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def pages(self, from_micros: int, to_micros: int) -> AsyncIterator[list[ChargeRecord]]:
        """Give all records of what ended in a period, from inclusive, to exclusive, in order."""
        place = (charges.c.ended_at_micros, charges.c.completion_id, charges.c.attempt)
        query = _records().where(_ended(from_micros, to_micros)).order_by(*place).limit(_PAGE)
        rest = query
        while True:
            page = await self._database.read(partial(_fetch, query=rest))
            if page:
                yield page
            if len(page) < _PAGE:
                return
            last = page[-1]
            after = (last.ended_at_micros, last.completion_id, last.attempt)
            rest = query.where(tuple_(*place) > after)

    async def forget(self, before_micros: int, limit: int) -> int:
        """Delete some of the records and outcomes of before a moment; return how many."""
        return await self._database.run(
            lambda connection: sum(
                connection.execute(_oldest(table, moment, before_micros, limit)).rowcount
                for table, moment in (
                    (charges, charges.c.ended_at_micros),
                    (outcomes, outcomes.c.at_micros),
                )
            )
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._database.aclose()


_INSERT = {
    (dialect, table.name): insert(table).on_conflict_do_nothing()
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
    for table in (charges, outcomes)
}


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        # What a commit with a lost answer has written already is not written again.
        connection.execute(_INSERT[connection.dialect.name, table.name], rows)


def _row(record: ChargeRecord) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    row["usage"] = _encode(record.usage).decode()
    row["items"] = _encode(record.items).decode()
    return row


def _records() -> Select[Any]:
    """Return the query of records, with what became of pending ones."""
    columns = [
        func.coalesce(outcomes.c[column.name], column).label(column.name)
        if column.name in _LATE
        else column
        for column in charges.c
    ]
    same = and_(
        outcomes.c.completion_id == charges.c.completion_id,
        outcomes.c.attempt == charges.c.attempt,
    )
    return select(*columns).select_from(charges.outerjoin(outcomes, same))


def _fetch(connection: Connection, query: Select[Any]) -> list[ChargeRecord]:
    return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> ChargeRecord:
    members = row._asdict()
    members["usage"] = _usage_decoder.decode(members["usage"])
    members["items"] = _items_decoder.decode(members["items"])
    return ChargeRecord(**members)


def _ended(from_micros: int, to_micros: int) -> ColumnElement[bool]:
    ended = charges.c.ended_at_micros
    return and_(ended >= from_micros, ended < to_micros)


def _oldest(table: Table, moment: Column[int], before_micros: int, limit: int) -> Delete:
    key = (table.c.completion_id, table.c.attempt)
    some = select(*key).where(moment < before_micros).order_by(moment).limit(limit)
    return delete(table).where(tuple_(*key).in_(some))
