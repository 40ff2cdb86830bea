"""How use is charged to a hold: from what it reserves, then from what is available."""

from typing import Literal

import msgspec

from credits_service.core.money import MAX_NANOS
from credits_service.ledger import lots
from credits_service.ledger.context import Context
from credits_service.ledger.journal import Draft, Transaction
from credits_service.ledger.state import AccountState, Hold, KeySpending

_encode = msgspec.json.Encoder().encode
_DETAILS = {end: _encode({"end": end}).decode() for end in ("captured", "expired", "late", None)}


def capture_details(
    end: Literal["captured", "expired", "late"] | None, key: KeySpending | None
) -> str:
    """Write down how a capture leaves its hold, and for which key it counts, if for one.

    Those who check the ledger read it.
    """
    return _DETAILS[end] if key is None else _encode({"end": end, "key_id": key.key_id}).decode()


def charge_details(key: KeySpending | None) -> str | None:
    """Write down for which key a charge at once counts, if it counts for one."""
    return None if key is None else _encode({"key_id": key.key_id}).decode()


def settle(
    state: AccountState,
    hold: Hold,
    amount_nanos: int,
    *,
    template: Draft,
    end: Literal["captured", "expired"] | None,
    context: Context,
) -> Transaction:
    """Charge an amount of use to a hold.

    What the hold's expiry charged before counts first, then what the hold reserves, then
    what is available; the rest is recorded as a shortfall, so that no balance goes negative.

    Args:
        state: the account.
        hold: one of its holds, active or expired.
        amount_nanos: what was used.
        template: the charge's texts; its amounts are filled in.
        end: how the hold ends with this, if it does: its rest is returned.
        context: the batch.
    """
    settled_before = min(amount_nanos, hold.settled_nanos)
    hold.settled_nanos -= settled_before
    hold.used_nanos = min(MAX_NANOS, hold.used_nanos + amount_nanos)
    due = amount_nanos - settled_before
    from_hold = min(due, hold.uncaptured_nanos)
    from_free = min(due - from_hold, state.account.available_nanos)
    uses, rest = lots.take_reserved(state, hold.lots, from_hold)
    hold.lots = rest
    hold.captured_nanos += from_hold
    key = state.key(hold.key_id)
    if key is not None:
        key.held_nanos -= from_hold
    uses += lots.take_free(state, from_free)
    if end is not None:
        end_hold(state, hold, end, context)
    hold.updated_at_micros = context.now_micros
    charged = from_hold + from_free
    return context.book(
        state,
        msgspec.structs.replace(
            template,
            amount_nanos=-charged,
            lots=tuple(uses),
            requested_nanos=amount_nanos,
            settled_before_nanos=settled_before,
            shortfall_nanos=due - charged,
            key_id=None if key is None else key.key_id,
        ),
    )


def end_hold(
    state: AccountState,
    hold: Hold,
    status: Literal["captured", "released", "expired"],
    context: Context,
) -> None:
    """End an active hold and return what it still reserves."""
    key = state.key(hold.key_id)
    if key is not None:
        key.held_nanos -= hold.uncaptured_nanos
    lots.give_back(state, hold.lots)
    hold.lots = ()
    hold.status = status
    hold.updated_at_micros = context.now_micros
    hold.ended_at_micros = context.now_micros
    state.account.updated_at_micros = context.now_micros
