"""Set-based reads and writes: one statement for any number of rows, on both engines.

PostgreSQL gets each column as one array, SQLite the rows one by one inside the process.
Either way the statement's text does not depend on the number of rows, so it is prepared once.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

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
        # Columns that no row fills are left out: encoding arrays of NULL is not free.
        columns = {
            name: list(values)
            for name, values in zip(names, zip(*rows, strict=True), strict=True)
            if any(value is not None for value in values)
        }
        statement = _insert(table, tuple(columns), "postgresql")
        connection.exec_driver_sql(statement, tuple(columns.values()))
    else:
        connection.exec_driver_sql(_insert(table, names, "sqlite"), list(map(tuple, rows)))


def update_rows(
    connection: Connection, table: Table, names: tuple[str, ...], rows: list[Row]
) -> None:
    """Overwrite rows by their primary key, which is the first of the names."""
    if not rows:
        return
    statement = _update(table, names, connection.dialect.name)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(statement, tuple(map(list, zip(*rows, strict=True))))
    else:
        connection.exec_driver_sql(statement, list(map(tuple, rows)))


# Names in the statements below come from the tables' own definitions, never from a request.


def _arrays(table: Table, names: tuple[str, ...]) -> str:
    types = (table.c[name].type.compile(dialect=_POSTGRESQL) for name in names)
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, start=1))


@lru_cache
def _insert(table: Table, names: tuple[str, ...], dialect: str) -> str:
    into = f"INSERT INTO {table.name} ({', '.join(names)})"
    if dialect == "postgresql":
        return f"{into} SELECT * FROM unnest({_arrays(table, names)})"  # noqa: S608 - see above
    return f"{into} VALUES ({', '.join('?' for _ in names)})"


@lru_cache
def _update(table: Table, names: tuple[str, ...], dialect: str) -> str:
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
