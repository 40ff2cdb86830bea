"""The tables of issued API keys (see `tables`).

A key's rows stay when it is revoked. Rows of `key_events` are never changed: triggers refuse.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from credits_service.db.metadata import metadata

# No foreign key to the account: making a key would wait for whoever has the account locked.
# Accounts are never deleted.
issued_keys = Table(
    "issued_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("allowed_models", Text),
    Column("rpm", BigInteger),
    Column("tpm", BigInteger),
    Column("max_concurrent", BigInteger),
    Column("limit_day_nanos", BigInteger),
    Column("limit_month_nanos", BigInteger),
    Column("limit_total_nanos", BigInteger),
    Column("metadata", Text),
    Column("disabled", Boolean, nullable=False),
    Column("expires_at_micros", BigInteger),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("updated_at_micros", BigInteger, nullable=False),
    Column("last_used_at_micros", BigInteger),
    Column("revoked_at_micros", BigInteger),
    CheckConstraint("rpm > 0 AND tpm > 0 AND max_concurrent > 0", name="rates"),
    CheckConstraint(
        "limit_day_nanos > 0 AND limit_month_nanos > 0 AND limit_total_nanos > 0", name="limits"
    ),
)
# An account's keys, newest first.
Index("ix_issued_keys_account", issued_keys.c.account, issued_keys.c.id)

# Made with the key, and changed by the ledger alone, under the lock of the key's account.
key_spending = Table(
    "key_spending",
    metadata,
    Column("key_id", String(36), ForeignKey("issued_keys.id"), primary_key=True),
    Column("held_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_total_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_day_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_month_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_at_micros", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("held_nanos >= 0", name="held"),
    # As the accounts' rows: room for new versions of a hot row.
    postgresql_with={"fillfactor": 60},
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("prefix", String(8), primary_key=True),
    Column("key_id", String(36), ForeignKey("issued_keys.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("last_four", String(4), nullable=False),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("ends_at_micros", BigInteger),
    UniqueConstraint("key_id", "number"),
)

key_events = Table(
    "key_events",
    metadata,
    Column("key_id", String(36), ForeignKey("issued_keys.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("details", Text, nullable=False),
    Column("principal", String(128), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("happened_at_micros", BigInteger, nullable=False),
    CheckConstraint("kind IN ('created', 'changed', 'rotated', 'revoked', 'refused')", name="kind"),
)
