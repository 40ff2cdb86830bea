"""The ledger's tables, for SQLite and PostgreSQL alike.

Amounts are BIGINT nano-USD, moments BIGINT microseconds since 1970, identifiers UUIDv7 text.
The CHECK constraints are the second fence behind the rules. Rows of `transactions` and
`entries` are never changed: triggers refuse (see the migrations).
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

from credits_service.db.key_tables import issued_keys, key_events, key_secrets, key_spending
from credits_service.db.metadata import metadata

__all__ = [
    "accounts",
    "entries",
    "holds",
    "idempotency_keys",
    "issued_keys",
    "key_events",
    "key_secrets",
    "key_spending",
    "lots",
    "metadata",
    "transactions",
    "webhook_events",
]

accounts = Table(
    "accounts",
    metadata,
    Column("user_id", String(128), primary_key=True),
    Column("unit", String(8), nullable=False, server_default="USD"),
    Column("status", String(16), nullable=False),
    Column("balance_nanos", BigInteger, nullable=False),
    Column("held_nanos", BigInteger, nullable=False),
    Column("shortfall_nanos", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("head_hash", LargeBinary, nullable=False),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("updated_at_micros", BigInteger, nullable=False),
    Column("low_balance_nanos", BigInteger),
    Column("limit_day_nanos", BigInteger),
    Column("limit_month_nanos", BigInteger),
    Column("limit_total_nanos", BigInteger),
    Column("spent_total_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_day_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_month_nanos", BigInteger, nullable=False, server_default="0"),
    Column("spent_at_micros", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("status IN ('open', 'frozen', 'closed')", name="status"),
    CheckConstraint("held_nanos >= 0", name="held"),
    CheckConstraint("balance_nanos >= held_nanos", name="available"),
    CheckConstraint("shortfall_nanos >= 0", name="shortfall"),
    CheckConstraint("seq >= 0", name="seq"),
    # Room for new versions of a hot row beside the old one: no index has to follow them.
    postgresql_with={"fillfactor": 60},
)

lots = Table(
    "lots",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(128), ForeignKey("accounts.user_id"), nullable=False),
    Column("source", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("granted_nanos", BigInteger, nullable=False),
    Column("remaining_nanos", BigInteger, nullable=False),
    Column("held_nanos", BigInteger, nullable=False),
    Column("expires_at_micros", BigInteger),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("reference", String(255), unique=True),
    CheckConstraint("granted_nanos > 0", name="granted"),
    CheckConstraint("remaining_nanos BETWEEN 0 AND granted_nanos", name="remaining"),
    CheckConstraint("held_nanos BETWEEN 0 AND remaining_nanos", name="held"),
    postgresql_with={"fillfactor": 60},
)
_live_lots = lots.c.remaining_nanos > 0
Index("ix_lots_live", lots.c.user_id, postgresql_where=_live_lots, sqlite_where=_live_lots)

holds = Table(
    "holds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(128), ForeignKey("accounts.user_id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("captured_nanos", BigInteger, nullable=False),
    Column("progress_nanos", BigInteger, nullable=False),
    Column("settled_nanos", BigInteger, nullable=False),
    Column("used_nanos", BigInteger, nullable=False),
    Column("lots", Text, nullable=False),
    Column("late_captured", Boolean, nullable=False),
    Column("request_ref", String(255)),
    Column("key_id", String(128)),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("updated_at_micros", BigInteger, nullable=False),
    Column("expires_at_micros", BigInteger, nullable=False),
    Column("ended_at_micros", BigInteger),
    CheckConstraint("status IN ('active', 'captured', 'released', 'expired')", name="status"),
    CheckConstraint("amount_nanos > 0", name="amount"),
    CheckConstraint("captured_nanos BETWEEN 0 AND amount_nanos", name="captured"),
    CheckConstraint("progress_nanos >= 0 AND settled_nanos >= 0", name="progress"),
    CheckConstraint("(status = 'active') = (ended_at_micros IS NULL)", name="ended"),
    postgresql_with={"fillfactor": 70},
)
_active_holds = holds.c.status == "active"
Index(
    "ix_holds_due",
    holds.c.expires_at_micros,
    postgresql_where=_active_holds,
    sqlite_where=_active_holds,
)
# What is due on one account: an account's ended holds must not be looked at, as there is one
# for each completion that it ever had.
Index(
    "ix_holds_user_due",
    holds.c.user_id,
    holds.c.expires_at_micros,
    postgresql_where=_active_holds,
    sqlite_where=_active_holds,
)
# An account's holds, newest first.
Index("ix_holds_user", holds.c.user_id, holds.c.id)

transactions = Table(
    "transactions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(128), ForeignKey("accounts.user_id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("balance_after_nanos", BigInteger, nullable=False),
    Column("held_after_nanos", BigInteger, nullable=False),
    Column("booked_at_micros", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("lots", Text, nullable=False),
    Column("requested_nanos", BigInteger),
    Column("settled_before_nanos", BigInteger, nullable=False),
    Column("shortfall_nanos", BigInteger, nullable=False),
    Column("hold_id", String(36)),
    Column("reverses_id", String(36)),
    Column("usage", Text),
    Column("price", Text),
    Column("metadata", Text),
    Column("exact_cost_picos", Text),
    Column("principal", String(128), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("idempotency_key", String(255)),
    Column("details", Text),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("user_id", "seq"),
    CheckConstraint(
        "kind IN ('topup', 'charge', 'lot_expiry', 'refund', 'forfeiture', 'account_change')",
        name="kind",
    ),
    CheckConstraint("held_after_nanos >= 0", name="held_after"),
    CheckConstraint("balance_after_nanos >= held_after_nanos", name="available_after"),
    CheckConstraint("(kind IN ('topup', 'refund')) = (amount_nanos > 0)", name="direction"),
    CheckConstraint("shortfall_nanos >= 0 AND settled_before_nanos >= 0", name="shortfall"),
)
_refunds = transactions.c.reverses_id.is_not(None)
Index(
    "ix_transactions_reverses_id",
    transactions.c.reverses_id,
    postgresql_where=_refunds,
    sqlite_where=_refunds,
)

entries = Table(
    "entries",
    metadata,
    Column("transaction_id", String(36), ForeignKey("transactions.id"), primary_key=True),
    Column("leg", String(16), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    CheckConstraint("leg IN ('wallet', 'funding', 'revenue', 'breakage')", name="leg"),
    CheckConstraint("amount_nanos <> 0", name="amount"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # The key first: it is what tells rows apart, while nearly all share one scope.
    Column("key", String(255), primary_key=True),
    Column("scope", String(128), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # For forgetting the old ones.
    Column("created_at_micros", BigInteger, nullable=False, index=True),
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at_micros", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at_micros", BigInteger, nullable=False, server_default="0"),
    Column("delivered_at_micros", BigInteger),
    Column("failed_at_micros", BigInteger),
)
_waiting_events = webhook_events.c.delivered_at_micros.is_(None) & (
    webhook_events.c.failed_at_micros.is_(None)
)
_retried_events = _waiting_events & (webhook_events.c.attempts > 0)
Index(
    "ix_webhook_events_retried",
    webhook_events.c.next_attempt_at_micros,
    postgresql_where=_retried_events,
    sqlite_where=_retried_events,
)
# Those that were never tried, an account's in the order in which they are. No event is in both:
# a planner without statistics could look for these in the other index, and read all of it.
_untried_events = _waiting_events & (webhook_events.c.attempts == 0)
Index(
    "ix_webhook_events_untried",
    webhook_events.c.user_id,
    webhook_events.c.created_at_micros,
    webhook_events.c.id,
    postgresql_where=_untried_events,
    sqlite_where=_untried_events,
)
# For deleting the old ones.
for _ended in (webhook_events.c.delivered_at_micros, webhook_events.c.failed_at_micros):
    Index(
        f"ix_webhook_events_{_ended.name}",
        _ended,
        postgresql_where=_ended.is_not(None),
        sqlite_where=_ended.is_not(None),
    )
