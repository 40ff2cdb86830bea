"""Rules of holds: place, raise, extend, report progress, release."""

import msgspec

from credits_service.ledger import lots
from credits_service.ledger.answers import (
    AccountRefused,
    HoldAnswer,
    HoldEnded,
    HoldPlaced,
    HoldUnknown,
    Insufficient,
    Unacceptable,
)
from credits_service.ledger.charges import KEY_UNKNOWN, insufficient
from credits_service.ledger.context import Context, standing
from credits_service.ledger.expiry import expire_lots
from credits_service.ledger.operations import AmendHold, PlaceHold, ReleaseHold
from credits_service.ledger.settlement import end_hold
from credits_service.ledger.spending import spendable
from credits_service.ledger.state import AccountState, Hold


def place_hold(
    state: AccountState, operation: PlaceHold, context: Context
) -> HoldPlaced | Insufficient | AccountRefused | Unacceptable:
    """Reserve the amount, or what is available if that reaches the minimum."""
    account = state.account
    if account.status != "open":
        return AccountRefused(account.user_id, account.status)
    key = state.key(operation.key_id)
    if key is None and operation.key_id is not None:
        return KEY_UNKNOWN
    minimum = operation.min_amount_nanos or operation.amount_nanos
    amount = min(operation.amount_nanos, spendable(account, context.now_micros, key).nanos)
    if amount < minimum:
        return insufficient(state, minimum, context, key=key)
    now = context.now_micros
    hold = Hold(
        id=context.new_id(),
        user_id=account.user_id,
        status="active",
        amount_nanos=amount,
        captured_nanos=0,
        progress_nanos=0,
        settled_nanos=0,
        used_nanos=0,
        lots=tuple(lots.reserve(state, amount)),
        late_captured=False,
        request_ref=operation.request_ref,
        key_id=operation.key_id,
        created_at_micros=now,
        updated_at_micros=now,
        expires_at_micros=now + operation.ttl_micros,
        ended_at_micros=None,
    )
    state.holds[hold.id] = hold
    if key is not None:
        key.held_nanos += amount
    account.updated_at_micros = now
    return HoldPlaced(msgspec.structs.replace(hold), standing(state, now, key))


def amend_hold(
    state: AccountState, operation: AmendHold, context: Context
) -> HoldAnswer | HoldUnknown | HoldEnded | Insufficient | AccountRefused:
    """Raise, extend and record; a raise that can't be paid leaves the hold as it was."""
    hold = state.holds.get(operation.hold_id)
    if hold is None:
        return HoldUnknown(operation.hold_id)
    if hold.status != "active":
        return HoldEnded(hold.id, hold.status)
    raise_nanos = max(0, (operation.amount_nanos or 0) - hold.amount_nanos)
    if raise_nanos:
        if state.account.status != "open":
            return AccountRefused(state.account.user_id, state.account.status)
        key = state.key(hold.key_id)
        if raise_nanos > spendable(state.account, context.now_micros, key).nanos:
            own_nanos = hold.uncaptured_nanos
            return insufficient(state, raise_nanos, context, key=key, own_nanos=own_nanos)
        hold.lots = lots.in_order(state, (*hold.lots, *lots.reserve(state, raise_nanos)))
        hold.amount_nanos += raise_nanos
        if key is not None:
            key.held_nanos += raise_nanos
    if operation.ttl_micros is not None:
        expiry = context.now_micros + operation.ttl_micros
        hold.expires_at_micros = max(hold.expires_at_micros, expiry)
    hold.progress_nanos = max(hold.progress_nanos, operation.progress_nanos or 0)
    hold.updated_at_micros = context.now_micros
    return _answer(state, hold, context)


def release_hold(
    state: AccountState, operation: ReleaseHold, context: Context
) -> HoldAnswer | HoldUnknown:
    """Return what the hold reserves; one that has ended stays as it is."""
    hold = state.holds.get(operation.hold_id)
    if hold is None:
        return HoldUnknown(operation.hold_id)
    if hold.status == "active":
        end_hold(state, hold, "released", context)
        expire_lots(state, context)
    return _answer(state, hold, context)


def _answer(state: AccountState, hold: Hold, context: Context) -> HoldAnswer:
    key = state.key(hold.key_id)
    return HoldAnswer(msgspec.structs.replace(hold), standing(state, context.now_micros, key))
