"""The ledger: accounts, lots, holds, the append-only journal, idempotency keys.

Revision ID: 0001
Revises: -
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

APPEND_ONLY = ("transactions", "entries")


def upgrade() -> None:
    """Create the tables, and the triggers that keep the journal append-only."""
    _create_accounts()
    _create_lots()
    _create_holds()
    _create_transactions()
    _create_entries()
    _create_idempotency_keys()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_on_postgresql()
    else:
        _refuse_changes_on_sqlite()


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("unit", sa.String(length=8), server_default="USD", nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("balance_nanos", sa.BigInteger(), nullable=False),
        sa.Column("held_nanos", sa.BigInteger(), nullable=False),
        sa.Column("shortfall_nanos", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('open', 'frozen', 'closed')", name=op.f("ck_accounts_status")
        ),
        sa.CheckConstraint("balance_nanos >= held_nanos", name=op.f("ck_accounts_available")),
        sa.CheckConstraint("held_nanos >= 0", name=op.f("ck_accounts_held")),
        sa.CheckConstraint("seq >= 0", name=op.f("ck_accounts_seq")),
        sa.CheckConstraint("shortfall_nanos >= 0", name=op.f("ck_accounts_shortfall")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_accounts")),
        postgresql_with={"fillfactor": 60},
    )


def _create_lots() -> None:
    op.create_table(
        "lots",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("granted_nanos", sa.BigInteger(), nullable=False),
        sa.Column("remaining_nanos", sa.BigInteger(), nullable=False),
        sa.Column("held_nanos", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_micros", sa.BigInteger(), nullable=True),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=True),
        sa.CheckConstraint("granted_nanos > 0", name=op.f("ck_lots_granted")),
        sa.CheckConstraint("held_nanos BETWEEN 0 AND remaining_nanos", name=op.f("ck_lots_held")),
        sa.CheckConstraint(
            "remaining_nanos BETWEEN 0 AND granted_nanos", name=op.f("ck_lots_remaining")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.user_id"], name=op.f("fk_lots_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lots")),
        sa.UniqueConstraint("reference", name=op.f("uq_lots_reference")),
        postgresql_with={"fillfactor": 60},
    )
    op.create_index(
        "ix_lots_live",
        "lots",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("remaining_nanos > 0"),
        sqlite_where=sa.text("remaining_nanos > 0"),
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("captured_nanos", sa.BigInteger(), nullable=False),
        sa.Column("progress_nanos", sa.BigInteger(), nullable=False),
        sa.Column("settled_nanos", sa.BigInteger(), nullable=False),
        sa.Column("used_nanos", sa.BigInteger(), nullable=False),
        sa.Column("lots", sa.Text(), nullable=False),
        sa.Column("late_captured", sa.Boolean(), nullable=False),
        sa.Column("request_ref", sa.String(length=255), nullable=True),
        sa.Column("key_id", sa.String(length=128), nullable=True),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_micros", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(status = 'active') = (ended_at_micros IS NULL)", name=op.f("ck_holds_ended")
        ),
        sa.CheckConstraint(
            "status IN ('active', 'captured', 'released', 'expired')", name=op.f("ck_holds_status")
        ),
        sa.CheckConstraint("amount_nanos > 0", name=op.f("ck_holds_amount")),
        sa.CheckConstraint(
            "captured_nanos BETWEEN 0 AND amount_nanos", name=op.f("ck_holds_captured")
        ),
        sa.CheckConstraint(
            "progress_nanos >= 0 AND settled_nanos >= 0", name=op.f("ck_holds_progress")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.user_id"], name=op.f("fk_holds_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_holds_due",
        "holds",
        ["expires_at_micros"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
        sqlite_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "ix_holds_user_due",
        "holds",
        ["user_id", "expires_at_micros"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
        sqlite_where=sa.text("status = 'active'"),
    )
    op.create_index("ix_holds_user_id", "holds", ["user_id"], unique=False)


def _create_transactions() -> None:
    op.create_table(
        "transactions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("balance_after_nanos", sa.BigInteger(), nullable=False),
        sa.Column("held_after_nanos", sa.BigInteger(), nullable=False),
        sa.Column("booked_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("lots", sa.Text(), nullable=False),
        sa.Column("requested_nanos", sa.BigInteger(), nullable=True),
        sa.Column("settled_before_nanos", sa.BigInteger(), nullable=False),
        sa.Column("shortfall_nanos", sa.BigInteger(), nullable=False),
        sa.Column("hold_id", sa.String(length=36), nullable=True),
        sa.Column("reverses_id", sa.String(length=36), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("price", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("exact_cost_picos", sa.Text(), nullable=True),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "(kind IN ('topup', 'refund')) = (amount_nanos > 0)",
            name=op.f("ck_transactions_direction"),
        ),
        sa.CheckConstraint(
            "kind IN ('topup', 'charge', 'lot_expiry', 'refund')", name=op.f("ck_transactions_kind")
        ),
        sa.CheckConstraint(
            "balance_after_nanos >= held_after_nanos", name=op.f("ck_transactions_available_after")
        ),
        sa.CheckConstraint("held_after_nanos >= 0", name=op.f("ck_transactions_held_after")),
        sa.CheckConstraint(
            "shortfall_nanos >= 0 AND settled_before_nanos >= 0",
            name=op.f("ck_transactions_shortfall"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["accounts.user_id"], name=op.f("fk_transactions_user_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("user_id", "seq", name=op.f("uq_transactions_user_id")),
    )


def _create_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("transaction_id", sa.String(length=36), nullable=False),
        sa.Column("leg", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "leg IN ('wallet', 'funding', 'revenue', 'breakage')", name=op.f("ck_entries_leg")
        ),
        sa.CheckConstraint("amount_nanos <> 0", name=op.f("ck_entries_amount")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.id"], name=op.f("fk_entries_transaction_id")
        ),
        sa.PrimaryKeyConstraint("transaction_id", "leg", name=op.f("pk_entries")),
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "scope", name=op.f("pk_idempotency_keys")),
    )


def _refuse_changes_on_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
        END
        $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _refuse_changes_on_sqlite() -> None:
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
