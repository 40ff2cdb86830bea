"""What the machine draws from: names, amounts in nano-USD, lifetimes in seconds."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

SECOND = 1_000_000
DAY = 86_400 * SECOND

# An account that is closed makes place for a new one of the same name; `closed` is the last one.
NAMES = st.sampled_from(("ann", "bob", "ann", "bob", "closed"))
AMOUNTS = st.integers(1, 60)
GRANTS = st.integers(1, 200)
LIFETIMES = st.integers(1, 40)
TTLS = LIFETIMES | st.integers(40, 3600)
# Of lots; some outlive a jump over days.
EXPIRIES = st.none() | LIFETIMES | st.integers(1, 50).map(lambda days: days * 86_400)
PICKS = st.integers(0, 30)
RECENT = st.sampled_from((0, 0, 0, 0, 0, 1, 1, 2, 3, 5, 8, 13))
# Of a batch: which operation, an amount, a pick and whether.
ITEMS = st.lists(
    st.tuples(st.integers(0, 6), AMOUNTS, RECENT, st.booleans()), min_size=2, max_size=8
)
BOUNDS = st.none() | st.integers(1, 200)
TERMS = {
    "low_balance": "low_balance_nanos",
    "day": "limit_day_nanos",
    "month": "limit_month_nanos",
    "total": "limit_total_nanos",
}
T = TypeVar("T")


def latest(items: Sequence[T], pick: int) -> T:
    """Pick one, the last one first: of holds it is the likeliest to be active."""
    return items[-1 - pick % len(items)]
