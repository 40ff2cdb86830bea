"""The usage log's tables, for SQLite and PostgreSQL alike.

Amounts are BIGINT nano-USD, moments BIGINT microseconds since 1970. A record is written once and
never changed: what becomes of a pending charge has a row of its own, which may come before the
record's.

How the schema grows: the database says which version it has. A change of these tables raises
`VERSION`, and adds to `prepare` what brings each older one there. Processes of the version before
go on meanwhile, so that may add tables, indexes, and columns with defaults, and takes nothing away.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    insert,
    select,
)

VERSION = 1

metadata = MetaData()

charges = Table(
    "charge_records",
    metadata,
    Column("completion_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("service_tier", Text, nullable=False),
    Column("catalog_version", Text, nullable=False),
    Column("started_at_micros", BigInteger, nullable=False),
    Column("ended_at_micros", BigInteger, nullable=False),
    # JSON; as text, since nobody asks the database about it.
    Column("usage", Text, nullable=False),
    Column("items", Text, nullable=False),
    Column("exact_cost_pico", BigInteger, nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("charged_nanos", BigInteger, nullable=False),
    Column("shortfall_nanos", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("hold_id", Text),
    Column("transaction_id", Text),
    PrimaryKeyConstraint("completion_id", "attempt"),
    Index("ix_charge_records_request_id", "request_id"),
    Index("ix_charge_records_ended_at", "ended_at_micros", "completion_id", "attempt"),
)

outcomes = Table(
    "charge_outcomes",
    metadata,
    Column("completion_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("charged_nanos", BigInteger, nullable=False),
    Column("shortfall_nanos", BigInteger, nullable=False),
    Column("transaction_id", Text),
    Column("at_micros", BigInteger, nullable=False),
    PrimaryKeyConstraint("completion_id", "attempt"),
    Index("ix_charge_outcomes_at_micros", "at_micros"),
)

versions = Table("usage_log_versions", metadata, Column("version", Integer, primary_key=True))


def prepare(connection: Connection) -> None:
    """Make what is not there yet, in one transaction.

    Of several that start at once on PostgreSQL one succeeds, and the others fail; they find all
    of it there when they try again.
    """
    metadata.create_all(connection)
    if connection.execute(select(versions.c.version)).first() is None:
        connection.execute(insert(versions).values(version=VERSION))
