"""Spend limits, account changes, refunds, webhook events, forgetting idempotency keys.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_OLD_KINDS = "kind IN ('topup', 'charge', 'lot_expiry', 'refund')"
_KINDS = "kind IN ('topup', 'charge', 'lot_expiry', 'refund', 'forfeiture', 'account_change')"
_DAY = "booked_at_micros / 86400000000"


def upgrade() -> None:
    """Extend the tables, and count what was spent before it was counted."""
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    _extend_accounts()
    _count_spent(on_postgresql=on_postgresql)
    op.add_column("transactions", sa.Column("details", sa.Text(), nullable=True))
    if on_postgresql:
        _allow_kinds_on_postgresql()
    else:
        _allow_kinds_on_sqlite()
    op.create_index(
        "ix_transactions_reverses_id",
        "transactions",
        ["reverses_id"],
        postgresql_where=sa.text("reverses_id IS NOT NULL"),
        sqlite_where=sa.text("reverses_id IS NOT NULL"),
    )
    op.drop_index("ix_holds_user_id", "holds")
    op.create_index("ix_holds_user", "holds", ["user_id", "id"])
    op.create_index(
        op.f("ix_idempotency_keys_created_at_micros"), "idempotency_keys", ["created_at_micros"]
    )
    _create_webhook_events()


def _extend_accounts() -> None:
    for name in ("low_balance", "limit_day", "limit_month", "limit_total"):
        op.add_column("accounts", sa.Column(f"{name}_nanos", sa.BigInteger(), nullable=True))
    for name in ("spent_total_nanos", "spent_day_nanos", "spent_month_nanos", "spent_at_micros"):
        op.add_column(
            "accounts", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
        )


def _count_spent(*, on_postgresql: bool) -> None:
    month = (
        "to_char(to_timestamp(booked_at_micros / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM')"
        if on_postgresql
        else "strftime('%Y-%m', booked_at_micros / 1000000, 'unixepoch')"
    )
    op.execute(
        f"""
        WITH charges AS (
            SELECT user_id, -amount_nanos AS nanos, booked_at_micros, {_DAY} AS day,
                   {month} AS month,
                   MAX(booked_at_micros) OVER (PARTITION BY user_id) AS last_micros,
                   MAX({_DAY}) OVER (PARTITION BY user_id) AS last_day,
                   MAX({month}) OVER (PARTITION BY user_id) AS last_month
            FROM transactions WHERE kind = 'charge' AND amount_nanos <> 0
        ), sums AS (
            SELECT user_id, MAX(last_micros) AS last_micros, SUM(nanos) AS total,
                   SUM(CASE WHEN day = last_day THEN nanos ELSE 0 END) AS of_day,
                   SUM(CASE WHEN month = last_month THEN nanos ELSE 0 END) AS of_month
            FROM charges GROUP BY user_id
        )
        UPDATE accounts SET
            spent_total_nanos = sums.total, spent_day_nanos = sums.of_day,
            spent_month_nanos = sums.of_month, spent_at_micros = sums.last_micros
        FROM sums WHERE sums.user_id = accounts.user_id
        """  # noqa: S608 - made of this file's own texts
    )


def _allow_kinds_on_postgresql() -> None:
    op.drop_constraint(op.f("ck_transactions_kind"), "transactions", type_="check")
    op.create_check_constraint(op.f("ck_transactions_kind"), "transactions", _KINDS)


def _allow_kinds_on_sqlite() -> None:
    """Change the constraint's text in place.

    The table can't be made anew, as the append-only triggers and the entries hang on it. This
    way is that of SQLite's documentation for changes that leave the content on disk as it is:
    https://www.sqlite.org/lang_altertable.html#otheralter
    """
    connection = op.get_bind()
    version = connection.scalar(sa.text("PRAGMA schema_version"))
    connection.execute(sa.text("PRAGMA writable_schema = ON"))
    changed = connection.execute(
        sa.text(
            "UPDATE sqlite_schema SET sql = replace(sql, :old, :new) "
            "WHERE type = 'table' AND name = 'transactions' AND instr(sql, :old) > 0"
        ),
        {"old": _OLD_KINDS, "new": _KINDS},
    )
    assert changed.rowcount == 1, "the constraint is not as the first migration made it"
    connection.execute(sa.text(f"PRAGMA schema_version = {int(version or 0) + 1}"))
    connection.execute(sa.text("PRAGMA writable_schema = OFF"))
    assert connection.scalar(sa.text("PRAGMA quick_check(1)")) == "ok"


def _create_webhook_events() -> None:
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at_micros", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered_at_micros", sa.BigInteger(), nullable=True),
        sa.Column("failed_at_micros", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
    )
    waiting = "delivered_at_micros IS NULL AND failed_at_micros IS NULL"
    retried = f"{waiting} AND attempts > 0"
    op.create_index(
        "ix_webhook_events_retried",
        "webhook_events",
        ["next_attempt_at_micros"],
        postgresql_where=sa.text(retried),
        sqlite_where=sa.text(retried),
    )
    untried = f"{waiting} AND attempts = 0"
    op.create_index(
        "ix_webhook_events_untried",
        "webhook_events",
        ["user_id", "created_at_micros", "id"],
        postgresql_where=sa.text(untried),
        sqlite_where=sa.text(untried),
    )
    for ended in ("delivered_at_micros", "failed_at_micros"):
        op.create_index(
            f"ix_webhook_events_{ended}",
            "webhook_events",
            [ended],
            postgresql_where=sa.text(f"{ended} IS NOT NULL"),
            sqlite_where=sa.text(f"{ended} IS NOT NULL"),
        )
