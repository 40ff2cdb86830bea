"""The rule of top-ups."""

import msgspec

from credits_service.core.money import MAX_NANOS
from credits_service.ledger.answers import AccountRefused, ToppedUp, Unacceptable
from credits_service.ledger.context import Context, standing
from credits_service.ledger.journal import Draft, LotUse
from credits_service.ledger.operations import TopUp
from credits_service.ledger.state import GENESIS_HASH, Account, AccountState, Lot

_encode = msgspec.json.Encoder().encode


def new_account(user_id: str, now_micros: int) -> AccountState:
    """Open an account without credit."""
    return AccountState(
        Account(
            user_id=user_id,
            status="open",
            balance_nanos=0,
            held_nanos=0,
            shortfall_nanos=0,
            seq=0,
            head_hash=GENESIS_HASH,
            created_at_micros=now_micros,
            updated_at_micros=now_micros,
        )
    )


def unacceptable(
    state: AccountState | None, operation: TopUp, now_micros: int
) -> Unacceptable | AccountRefused | None:
    """Return why a top-up can't be booked, or None; no state means a new account."""
    expiry = operation.expires_at_micros
    if expiry is not None and expiry <= now_micros:
        return Unacceptable("expires_at", "must be in the future")
    if state is None:
        return None
    if state.account.status == "closed":
        return AccountRefused(state.account.user_id, "closed")
    if state.account.balance_nanos + operation.amount_nanos > MAX_NANOS:
        return Unacceptable("amount", "would make the balance larger than can be kept")
    return None


def terms_of(lot: Lot) -> str:
    """Write down a lot's terms, so that they are in the journal and can't be changed unseen."""
    return _encode(
        {
            "source": lot.source,
            "priority": lot.priority,
            "expires_at_micros": lot.expires_at_micros,
            "reference": lot.reference,
        }
    ).decode()


def top_up(state: AccountState, operation: TopUp, context: Context) -> ToppedUp:
    """Add a lot; `unacceptable` has been asked before."""
    lot = Lot(
        id=context.new_id(),
        user_id=state.account.user_id,
        source=operation.source,
        priority=operation.priority,
        granted_nanos=operation.amount_nanos,
        remaining_nanos=operation.amount_nanos,
        held_nanos=0,
        expires_at_micros=operation.expires_at_micros,
        created_at_micros=context.now_micros,
        reference=operation.reference,
    )
    state.lots[lot.id] = lot
    transaction = context.book(
        state,
        Draft(
            kind="topup",
            amount_nanos=operation.amount_nanos,
            lots=(LotUse(lot.id, operation.amount_nanos, False),),
            description=operation.description,
            details=terms_of(lot),
        ),
    )
    return ToppedUp(
        transaction_id=transaction.id,
        lot_id=lot.id,
        amount_nanos=operation.amount_nanos,
        expires_at_micros=lot.expires_at_micros,
        reference=lot.reference,
        booked_at_micros=transaction.booked_at_micros,
        standing=standing(state, context.now_micros),
    )
