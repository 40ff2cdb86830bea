"""How the database is used: how many connections, how they are shared, how long things may take."""

from dataclasses import dataclass
from typing import Literal

# Statements over a whole ledger take their time.
AUDIT_STATEMENT_SECONDS = 86_400.0

Pooler = Literal["none", "transaction"]


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """How many connections, and how long things may take.

    Attributes:
        pool_size: connections for reading; writing has its own.
        connect_seconds: to open a connection.
        lock_seconds: to wait for a lock.
        statement_seconds: for one statement.
        pooler: what stands between the service and PostgreSQL: nothing, or a pooler that gives
            each transaction another of its connections, as PgBouncer does.
    """

    pool_size: int = 8
    connect_seconds: float = 5.0
    lock_seconds: float = 2.0
    statement_seconds: float = 10.0
    pooler: Pooler = "none"
