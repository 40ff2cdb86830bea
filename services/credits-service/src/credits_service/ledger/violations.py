"""Broken invariants, as those who check a ledger note them."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from credits_service.ledger.journal import Transaction

KEPT_PER_INVARIANT = 20


class Violation(NamedTuple):
    """A broken invariant.

    Attributes:
        invariant: which one; the numbers are those of docs/architecture.md.
        user_id: whose account; None if it is nobody's.
        detail: which row, and what about it.
    """

    invariant: str
    user_id: str | None
    detail: str


class Violations:
    """Collects what is wrong: some examples of each invariant, and how many there are.

    A ledger may be broken in as many places as it has rows.

    Attributes:
        found: at most `KEPT_PER_INVARIANT` of each invariant.
        counts: how many of each.
    """

    def __init__(self, user_id: str | None = None) -> None:
        self.found: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self._user_id = user_id

    @property
    def total(self) -> int:
        """How many were noted."""
        return self.counts.total()

    def add(self, violation: Violation) -> None:
        """Note a violation."""
        self.counts[violation.invariant] += 1
        if self.counts[violation.invariant] <= KEPT_PER_INVARIANT:
            self.found.append(violation)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Note several violations."""
        for violation in violations:
            self.add(violation)

    def merge(self, other: "Violations") -> None:
        """Take over what another has noted."""
        kept = Counter(violation.invariant for violation in other.found)
        self.extend(other.found)
        self.counts.update(other.counts - kept)

    def require(self, invariant: str, holds: bool, transaction: Transaction) -> None:
        """Note a transaction that breaks an invariant."""
        if not holds:
            detail = f"transaction {transaction.id}, seq {transaction.seq}"
            self.add(Violation(invariant, self._user_id, detail))

    def ensure(self, invariant: str, holds: bool, row: str) -> None:
        """Note another row that breaks one."""
        if not holds:
            self.add(Violation(invariant, self._user_id, row))

    def expect(self, invariant: str, folded: int, stored: int, row: str = "account") -> None:
        """Note a stored figure that is not what the journal adds up to."""
        self.ensure(invariant, folded == stored, f"{row}: folded {folded}, stored {stored}")
