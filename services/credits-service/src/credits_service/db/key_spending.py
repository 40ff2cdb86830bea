"""How what issued keys may spend, and have spent, is read: limits and counters together."""

from typing import Any

from sqlalchemy import Select, select

from credits_service.db.tables import issued_keys, key_spending

_LIMITS = (
    issued_keys.c.limit_day_nanos,
    issued_keys.c.limit_month_nanos,
    issued_keys.c.limit_total_nanos,
)
_COUNTERS = (
    key_spending.c.held_nanos,
    key_spending.c.spent_total_nanos,
    key_spending.c.spent_day_nanos,
    key_spending.c.spent_month_nanos,
    key_spending.c.spent_at_micros,
)


def key_spendings() -> Select[Any]:
    """Write the query for `rows.KEY_SPENDING` of all keys."""
    return select(issued_keys.c.id, issued_keys.c.account, *_LIMITS, *_COUNTERS).join_from(
        issued_keys, key_spending, key_spending.c.key_id == issued_keys.c.id
    )
