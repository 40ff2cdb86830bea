"""What falls due: holds that were not settled in time, and lots that expire."""

from credits_service.ledger.context import Context
from credits_service.ledger.journal import Draft, LotUse
from credits_service.ledger.lots import is_due, order_of
from credits_service.ledger.settlement import capture_details, end_hold, settle
from credits_service.ledger.state import AccountState

_EXPIRED_HOLD = "Settled when the hold expired, from its last reported progress"
_EXPIRED_LOT = "Expired credit"


def settle_due(state: AccountState, context: Context) -> None:
    """Expire due lots and settle due holds; every operation on an account begins so."""
    expire_lots(state, context)
    expire_holds(state, context)


def expire_holds(state: AccountState, context: Context) -> None:
    """Charge the last progress of each due hold and return its rest.

    What comes back into an expired lot expires before the next hold could use it.
    """
    due = [
        hold
        for hold in state.holds.values()
        if hold.status == "active" and hold.expires_at_micros <= context.now_micros
    ]
    for hold in sorted(due, key=lambda hold: (hold.expires_at_micros, hold.id)):
        used = max(0, hold.progress_nanos - hold.used_nanos)
        if used:
            template = Draft(
                kind="charge",
                amount_nanos=0,
                lots=(),
                description=_EXPIRED_HOLD,
                hold_id=hold.id,
                details=capture_details("expired", state.key(hold.key_id)),
            )
            booked = settle(state, hold, used, template=template, end="expired", context=context)
            charged_nanos = -booked.amount_nanos
            hold.settled_nanos = used
        else:
            charged_nanos = 0
            end_hold(state, hold, "expired", context)
        context.journal.event_log.hold_expired(hold, charged_nanos, context.now_micros)
        expire_lots(state, context)


def expire_lots(state: AccountState, context: Context) -> None:
    """Book what is free in due lots as breakage; what holds reserve stays until they end."""
    for lot in sorted(state.lots.values(), key=order_of):
        if not lot.free_nanos or not is_due(lot, context.now_micros):
            continue
        amount = lot.free_nanos
        lot.remaining_nanos -= amount
        context.without_key().book(
            state,
            Draft(
                kind="lot_expiry",
                amount_nanos=-amount,
                lots=(LotUse(lot.id, amount, False),),
                description=_EXPIRED_LOT,
            ),
        )
