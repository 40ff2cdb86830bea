"""Set-based reads and writes: one statement for any number of rows, on both engines.

PostgreSQL gets new rows by COPY, which costs both sides least, and changes as one array for
each column; SQLite gets the rows one by one inside the process. Either way the statement's
text does not depend on the number of rows, so it is prepared once.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

Row = Sequence[Any]

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # the library's is untyped


def member_of(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Whether a text column is among the values of one parameter (see `members`)."""
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=ARRAY(Text)))
    values = func.json_each(bindparam(name, type_=Text)).table_valued("value")
    return column.in_(select(values.c.value))


def members(values: Iterable[str], dialect: str) -> Any:
    """Return the parameter for `member_of`."""
    found = sorted(values)
    return found if dialect == "postgresql" else msgspec.json.encode(found).decode()


def columns_of(table: Table, names: Iterable[str]) -> list[Column[Any]]:
    """Return a table's columns in the order of a row type's fields."""
    return [table.c[name] for name in names]


def insert_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: list[Row]
) -> None:
    """Insert rows, whose values are in the order of the names."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, names, rows)
    else:
        connection.exec_driver_sql(_insert(table, names), rows)


def _copy(connection: Connection, table: Table, names: tuple[str, ...], rows: list[Row]) -> None:
    """Copy rows in; SQLAlchemy has no COPY, so failures are told as it would tell them."""
    driver = connection.connection.driver_connection
    assert driver is not None
    try:
        await_only(driver.copy_records_to_table(table.name, records=rows, columns=names))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        is_lost = driver.is_closed()
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError(
            f"COPY {table.name}", None, error, hide_parameters=True, connection_invalidated=is_lost
        ) from error
    except BaseException as error:
        # The peer is gone or silent: what the connection would answer next is unknown.
        connection.invalidate(error)
        raise


def update_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: list[Row]
) -> None:
    """Overwrite rows by their primary key, which is the first of the names."""
    if not rows:
        return
    statement = update_statement(table, names, connection.dialect.name)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(statement, tuple(map(list, zip(*rows, strict=True))))
    else:
        connection.exec_driver_sql(statement, rows)


# Names in the statements below come from the tables' own definitions, never from a request.


def _arrays(table: Table, names: tuple[str, ...]) -> str:
    types = (table.c[name].type.compile(dialect=_POSTGRESQL) for name in names)
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, start=1))


@lru_cache
def _insert(table: Table, names: tuple[str, ...]) -> str:
    places = ", ".join("?" for _ in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - see above


@lru_cache
def update_statement(table: Table, names: tuple[str, ...], dialect: str) -> str:
    """Write the statement of `update_rows`."""
    key, *changed = names
    if dialect == "postgresql":
        assignments = ", ".join(f"{name} = new.{name}" for name in changed)
        return (
            f"UPDATE {table.name} SET {assignments} "  # noqa: S608 - see above
            f"FROM unnest({_arrays(table, names)}) AS new ({', '.join(names)}) "
            f"WHERE {table.name}.{key} = new.{key}"
        )
    # SQLite numbers its parameters by position: the key comes first in the row.
    assignments = ", ".join(f"{name} = ?{at}" for at, name in enumerate(changed, start=2))
    return f"UPDATE {table.name} SET {assignments} WHERE {key} = ?1"  # noqa: S608 - see above
