"""An account as it is at a moment, before anything has booked what fell due until then."""

from credits_service.ledger.context import Context
from credits_service.ledger.expiry import settle_due
from credits_service.ledger.journal import Journal, Origin
from credits_service.ledger.state import AccountState

_NOBODY = Origin("", "", None)


def as_of(stored: AccountState, now_micros: int) -> AccountState:
    """Return the state with due holds settled and due lots expired; nothing is booked.

    The number of the last transaction stays that of the journal.
    """
    state = stored.copy()
    now = max(now_micros, state.account.updated_at_micros)
    settle_due(state, Context(Journal(), str, _NOBODY, now))
    state.account.seq = stored.account.seq
    state.account.updated_at_micros = stored.account.updated_at_micros
    return state
