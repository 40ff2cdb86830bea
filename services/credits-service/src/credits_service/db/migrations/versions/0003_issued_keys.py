"""Issued API keys, what they spend, their secrets, and what happened to them.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the tables, and the triggers that keep the events append-only."""
    _create_issued_keys()
    _create_key_spending()
    _create_key_secrets()
    _create_key_events()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_on_postgresql()
    else:
        _refuse_changes_on_sqlite()


def _create_issued_keys() -> None:
    op.create_table(
        "issued_keys",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("account", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("allowed_models", sa.Text(), nullable=True),
        sa.Column("rpm", sa.BigInteger(), nullable=True),
        sa.Column("tpm", sa.BigInteger(), nullable=True),
        sa.Column("max_concurrent", sa.BigInteger(), nullable=True),
        sa.Column("limit_day_nanos", sa.BigInteger(), nullable=True),
        sa.Column("limit_month_nanos", sa.BigInteger(), nullable=True),
        sa.Column("limit_total_nanos", sa.BigInteger(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("expires_at_micros", sa.BigInteger(), nullable=True),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at_micros", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_micros", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "rpm > 0 AND tpm > 0 AND max_concurrent > 0", name=op.f("ck_issued_keys_rates")
        ),
        sa.CheckConstraint(
            "limit_day_nanos > 0 AND limit_month_nanos > 0 AND limit_total_nanos > 0",
            name=op.f("ck_issued_keys_limits"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issued_keys")),
    )
    op.create_index("ix_issued_keys_account", "issued_keys", ["account", "id"])


def _create_key_spending() -> None:
    counters = ("held_nanos", "spent_total_nanos", "spent_day_nanos", "spent_month_nanos")
    op.create_table(
        "key_spending",
        sa.Column("key_id", sa.String(length=36), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
            for name in (*counters, "spent_at_micros")
        ),
        sa.CheckConstraint("held_nanos >= 0", name=op.f("ck_key_spending_held")),
        sa.ForeignKeyConstraint(
            ["key_id"], ["issued_keys.id"], name=op.f("fk_key_spending_key_id")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_spending")),
        postgresql_with={"fillfactor": 60},
    )


def _create_key_secrets() -> None:
    op.create_table(
        "key_secrets",
        sa.Column("prefix", sa.String(length=8), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("last_four", sa.String(length=4), nullable=False),
        sa.Column("created_at_micros", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_micros", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["issued_keys.id"], name=op.f("fk_key_secrets_key_id")),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_key_secrets")),
        sa.UniqueConstraint("key_id", "number", name=op.f("uq_key_secrets_key_id")),
    )


def _create_key_events() -> None:
    op.create_table(
        "key_events",
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("principal", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("happened_at_micros", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('created', 'changed', 'rotated', 'revoked', 'refused')",
            name=op.f("ck_key_events_kind"),
        ),
        sa.ForeignKeyConstraint(["key_id"], ["issued_keys.id"], name=op.f("fk_key_events_key_id")),
        sa.PrimaryKeyConstraint("key_id", "seq", name=op.f("pk_key_events")),
    )


def _refuse_changes_on_postgresql() -> None:
    # `refuse_change` is the first migration's.
    op.execute(
        "CREATE TRIGGER key_events_append_only BEFORE UPDATE OR DELETE ON key_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER key_events_no_truncate BEFORE TRUNCATE ON key_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _refuse_changes_on_sqlite() -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER key_events_no_{event.lower()} BEFORE {event} ON key_events "
            "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END"
        )
