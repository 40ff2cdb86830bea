"""Rules of charges: at once from what is available, or as the capture of a hold."""

from credits_service.ledger import lots
from credits_service.ledger.answers import (
    AccountRefused,
    Charged,
    HoldEnded,
    HoldUnknown,
    Insufficient,
    Unacceptable,
)
from credits_service.ledger.context import Context, standing
from credits_service.ledger.expiry import expire_lots
from credits_service.ledger.journal import Draft, Transaction
from credits_service.ledger.operations import Charge
from credits_service.ledger.settlement import capture_details, charge_details, settle
from credits_service.ledger.spending import could_spend, spendable
from credits_service.ledger.state import AccountState, Hold, KeySpending

KEY_UNKNOWN = Unacceptable("key_id", "is no issued key of this account")


def insufficient(
    state: AccountState,
    required_nanos: int,
    context: Context,
    *,
    key: KeySpending | None,
    own_nanos: int = 0,
) -> Insufficient:
    """Refuse for lack of credit or allowance, and say whether waiting can help.

    Args:
        state: the account.
        required_nanos: what is missing or more.
        context: the batch.
        key: the issued key that asks, if one does.
        own_nanos: credit that the asking request reserves itself, so that waiting for other
            requests does not free it.
    """
    account = state.account
    free = spendable(account, context.now_micros, key)
    return Insufficient(
        user_id=account.user_id,
        available_nanos=free.nanos,
        required_nanos=required_nanos,
        retryable=could_spend(account, required_nanos + own_nanos, context.now_micros, key),
        limit=free.limit if required_nanos <= account.available_nanos else None,
    )


def charge(
    state: AccountState, operation: Charge, context: Context
) -> Charged | Insufficient | AccountRefused | HoldUnknown | HoldEnded | Unacceptable:
    """Take credit, or capture a hold."""
    if operation.hold_id is not None:
        return _capture(state, operation, operation.hold_id, context)
    account = state.account
    if account.status != "open":
        return AccountRefused(account.user_id, account.status)
    key = state.key(operation.key_id)
    if key is None and operation.key_id is not None:
        return KEY_UNKNOWN
    amount = operation.amount_nanos
    if amount > spendable(account, context.now_micros, key).nanos:
        return insufficient(state, amount, context, key=key)
    uses = tuple(lots.take_free(state, amount))
    transaction = context.book(
        state,
        Draft(
            kind="charge",
            amount_nanos=-amount,
            lots=uses,
            description=operation.description,
            requested_nanos=amount,
            details=charge_details(key),
            usage=operation.usage,
            price=operation.price,
            metadata=operation.metadata,
            exact_cost_picos=_text(operation.exact_cost_picos),
            key_id=operation.key_id,
        ),
    )
    return _charged(state, transaction, context)


def _capture(
    state: AccountState, operation: Charge, hold_id: str, context: Context
) -> Charged | HoldUnknown | HoldEnded:
    """Settle a hold, on a frozen account and beyond a key's limits too: it was promised before.

    An expired hold is still settled, once: what its expiry charged counts towards it.
    """
    hold = state.holds.get(hold_id)
    if hold is None:
        return HoldUnknown(hold_id)
    if hold.status not in {"active", "expired"} or hold.late_captured:
        return HoldEnded(hold.id, hold.status)
    was_expired = hold.status == "expired"
    template = Draft(
        kind="charge",
        amount_nanos=0,
        lots=(),
        description=operation.description,
        hold_id=hold.id,
        details=capture_details(
            ("late" if was_expired else "captured") if operation.final else None,
            state.key(hold.key_id),
        ),
        usage=operation.usage,
        price=operation.price,
        metadata=operation.metadata,
        exact_cost_picos=_text(operation.exact_cost_picos),
    )
    if was_expired:
        hold.late_captured = operation.final
    transaction = settle(
        state,
        hold,
        operation.amount_nanos,
        template=template,
        end="captured" if operation.final and not was_expired else None,
        context=context,
    )
    expire_lots(state, context)
    return _charged(state, transaction, context, hold)


def _charged(
    state: AccountState, transaction: Transaction, context: Context, hold: Hold | None = None
) -> Charged:
    assert transaction.requested_nanos is not None
    return Charged(
        transaction_id=transaction.id,
        seq=transaction.seq,
        requested_nanos=transaction.requested_nanos,
        charged_nanos=-transaction.amount_nanos,
        settled_before_nanos=transaction.settled_before_nanos,
        shortfall_nanos=transaction.shortfall_nanos,
        hold_id=hold.id if hold else None,
        booked_at_micros=transaction.booked_at_micros,
        standing=standing(state, context.now_micros),
    )


def _text(picos: int | None) -> str | None:
    return None if picos is None else str(picos)
