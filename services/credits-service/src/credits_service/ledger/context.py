"""What a rule is given besides the account's state."""

from collections.abc import Callable
from typing import NamedTuple

from credits_service.ledger.answers import Standing
from credits_service.ledger.journal import Draft, Journal, Origin, Transaction
from credits_service.ledger.spending import spendable
from credits_service.ledger.state import AccountState, KeySpending


class Context(NamedTuple):
    """The journal that a batch appends to, a source of identifiers, who asks, and when."""

    journal: Journal
    new_id: Callable[[], str]
    origin: Origin
    now_micros: int

    def without_key(self) -> "Context":
        """Return the context of what happens on the way: the key stands for one transaction."""
        return self._replace(origin=self.origin._replace(idempotency_key=None))

    def book(self, state: AccountState, draft: Draft) -> Transaction:
        """Append a transaction to the account."""
        return self.journal.book(
            state,
            draft,
            transaction_id=self.new_id(),
            origin=self.origin,
            now_micros=self.now_micros,
        )


def standing(state: AccountState, now_micros: int, key: KeySpending | None = None) -> Standing:
    """Return the account's figures as they are at a moment; with a key, what that can spend."""
    account = state.account
    return Standing(
        account.user_id,
        account.balance_nanos,
        account.held_nanos,
        account.seq,
        spendable(account, now_micros, key).nanos,
    )
