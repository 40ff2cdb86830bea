"""What a batch is loaded with: each statement is written once for an engine, as text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    SelectBase,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    union,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg

from credits_service.db import rows
from credits_service.db.bulk import Row, columns_of, member_of
from credits_service.db.key_spending import key_spendings
from credits_service.db.tables import (
    accounts,
    holds,
    idempotency_keys,
    issued_keys,
    lots,
    transactions,
)

# How many due holds a batch settles: one transaction must stay short, however many there are.
DUE_HOLDS_MAX = 1_000

_DIALECTS = {"postgresql": asyncpg.dialect, "sqlite": sqlite.dialect}


class Query:
    """A statement that reads, compiled for an engine."""

    def __init__(self, statement: SelectBase, dialect: str) -> None:
        compiled = statement.compile(dialect=_DIALECTS[dialect]())
        self.text = compiled.string
        self.names: tuple[str, ...] = tuple(compiled.positiontup or ())

    def read(self, connection: Connection, **parameters: Any) -> Sequence[Row]:
        """Return the rows."""
        values = tuple(parameters[name] for name in self.names)
        return connection.exec_driver_sql(self.text, values).fetchall()


class QueriesTogether:
    """Several statements that read, in one round trip where there are round trips."""

    def __init__(self, statements: Sequence[SelectBase], dialect: str) -> None:
        self._are_one = dialect == "postgresql"
        together = [select(*map(_as_array, statements))] if self._are_one else statements
        self.queries = [Query(statement, dialect) for statement in together]

    def read(self, connection: Connection, **parameters: Any) -> Sequence[Sequence[Row]]:
        """Return the rows of each."""
        if self._are_one:
            (arrays,) = self.queries[0].read(connection, **parameters)
            return arrays
        return [query.read(connection, **parameters) for query in self.queries]


def _as_array(statement: SelectBase) -> Any:
    """Write a statement's rows as one value, an array of records."""
    rows_of_it = statement.subquery("found")
    found: Select[Any] = select(literal_column("found")).select_from(rows_of_it)
    return func.array(found.scalar_subquery())


class LoadQueries(NamedTuple):
    """The statements of loading.

    Attributes:
        accounts: locks, and tells the moment at which each lock was there as the last column.
        free_accounts: locks those of the accounts that nobody else has locked.
        lock_holders: tells of each account the transaction that locked it last.
        rest: live lots; due holds and those that are named; outcomes of keys.
    """

    hold_owners: Query
    transactions: Query
    refunds: Query
    accounts: Query
    free_accounts: Query
    lock_holders: Query
    now: Query
    rest: QueriesTogether
    named_lots: Query
    references: Query
    key_spendings: Query


def load_queries(dialect: str) -> LoadQueries:
    """Write the statements for an engine."""

    def query(statement: SelectBase) -> Query:
        return Query(statement, dialect)

    user_ids = select(accounts.c.user_id).where(member_of(accounts.c.user_id, "users", dialect))
    booked = select(*columns_of(transactions, rows.TRANSACTION))
    return LoadQueries(
        hold_owners=query(
            select(holds.c.id, holds.c.user_id).where(member_of(holds.c.id, "holds", dialect))
        ),
        transactions=query(booked.where(member_of(transactions.c.id, "ids", dialect))),
        refunds=query(
            booked.where(
                transactions.c.reverses_id.is_not(None),
                member_of(transactions.c.reverses_id, "ids", dialect),
            )
        ),
        accounts=query(_locked_accounts(dialect)),
        free_accounts=query(user_ids.with_for_update(skip_locked=True)),
        lock_holders=query(user_ids.add_columns(_lock_holder(dialect))),
        now=query(select(_now(dialect))),
        rest=QueriesTogether((_live_lots(dialect), _holds(dialect), _keys(dialect)), dialect),
        named_lots=query(
            select(*columns_of(lots, rows.LOT)).where(member_of(lots.c.id, "ids", dialect))
        ),
        references=query(
            select(lots.c.reference).where(member_of(lots.c.reference, "references", dialect))
        ),
        key_spendings=query(key_spendings().where(member_of(issued_keys.c.id, "ids", dialect))),
    )


def _now(dialect: str) -> Any:
    if dialect == "sqlite":
        return literal_column("NULL")  # it runs in this process, whose clock is used
    seconds = func.extract("epoch", func.clock_timestamp())
    return cast(seconds * literal_column("1000000"), BigInteger)


def _lock_holder(dialect: str) -> Any:
    # SQLite locks no rows.
    return literal_column("NULL" if dialect == "sqlite" else "xmax")


def _locked_accounts(dialect: str) -> Select[Any]:
    # Always in one order, whatever the process, so that none waits for another in a circle.
    locked = (
        select(*columns_of(accounts, rows.ACCOUNT))
        .where(member_of(accounts.c.user_id, "users", dialect))
        .order_by(accounts.c.user_id)
        .with_for_update()
        .subquery("locked")
    )
    # Outside of the subquery: inside, the clock would be read before the lock is waited for.
    return select(*locked.c, _now(dialect))


def _live_lots(dialect: str) -> Select[Any]:
    return select(*columns_of(lots, rows.LOT)).where(
        member_of(lots.c.user_id, "users", dialect),
        lots.c.remaining_nanos > literal_column("0"),
    )


def _holds(dialect: str) -> SelectBase:
    found = select(*columns_of(holds, rows.HOLD))
    due: Select[Any] = found.where(
        # Written out: a plan made for any status could not use the index of the active ones.
        holds.c.status == literal_column("'active'"),
        holds.c.expires_at_micros <= bindparam("now", type_=BigInteger),
        member_of(holds.c.user_id, "users", dialect),
    )
    # Those that are left for the next batch go on reserving their credit until then.
    bounded = (
        due.order_by(holds.c.expires_at_micros, holds.c.id)
        .limit(literal_column(str(DUE_HOLDS_MAX)))
        .offset(literal_column("0"))  # SQLite's dialect would make a parameter of it
        .subquery("due")
    )
    return union(select(*bounded.c), found.where(member_of(holds.c.id, "holds", dialect)))


def _keys(dialect: str) -> Select[Any]:
    names = ("scope", "key", "fingerprint", "status", "body")
    return select(*columns_of(idempotency_keys, names)).where(
        member_of(idempotency_keys.c.scope, "scopes", dialect),
        member_of(idempotency_keys.c.key, "keys", dialect),
    )
