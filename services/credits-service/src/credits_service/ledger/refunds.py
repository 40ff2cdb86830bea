"""The rule of refunds: linked reversals, back into the lots that the charge took from."""

from collections.abc import Sequence
from typing import NamedTuple

from credits_service.core.money import MAX_NANOS, usd_from_nanos
from credits_service.ledger.answers import AccountRefused, NotRefundable, Refunded, Unacceptable
from credits_service.ledger.context import Context, standing
from credits_service.ledger.expiry import expire_lots
from credits_service.ledger.journal import Draft, LotUse, Transaction
from credits_service.ledger.operations import Refund
from credits_service.ledger.state import AccountState


class Refundable(NamedTuple):
    """A transaction that is to be refunded.

    Attributes:
        returned: what earlier refunds gave back, by lot.
    """

    charge: Transaction
    returned: dict[str, int]


def returned_by(refunds: Sequence[Transaction]) -> dict[str, int]:
    """Add up what refunds gave back, by lot."""
    sums: dict[str, int] = {}
    for refund_booked in refunds:
        for use in refund_booked.lots:
            sums[use.lot_id] = sums.get(use.lot_id, 0) + use.nanos
    return sums


def refund(
    state: AccountState, found: Refundable, operation: Refund, context: Context
) -> Refunded | NotRefundable | AccountRefused | Unacceptable:
    """Give back credit, last used first; what comes back into an expired lot expires at once.

    `found.returned` is brought up to date, for the next refund of the same charge.
    """
    charge = found.charge
    refunded_nanos = sum(found.returned.values())
    rest_nanos = -charge.amount_nanos - refunded_nanos
    if state.account.status == "closed":
        return AccountRefused(state.account.user_id, "closed")
    if charge.kind != "charge":
        return NotRefundable(charge.id, "no_charge")
    if not rest_nanos:
        return NotRefundable(charge.id, "refunded" if charge.amount_nanos else "took_nothing")
    amount = rest_nanos if operation.amount_nanos is None else operation.amount_nanos
    if amount > rest_nanos:
        return Unacceptable(
            "amount", f"must be at most what is left of the charge, {usd_from_nanos(rest_nanos)}"
        )
    if state.account.balance_nanos + amount > MAX_NANOS:
        return Unacceptable("amount", "would make the balance larger than can be kept")
    transaction = context.book(
        state,
        Draft(
            kind="refund",
            amount_nanos=amount,
            lots=_give_back(state, found, amount),
            description=operation.reason,
            reverses_id=charge.id,
        ),
    )
    expire_lots(state, context)
    return Refunded(
        transaction_id=transaction.id,
        reverses_id=charge.id,
        reason=operation.reason,
        amount_nanos=amount,
        refunded_nanos=refunded_nanos + amount,
        refundable_nanos=rest_nanos - amount,
        booked_at_micros=transaction.booked_at_micros,
        standing=standing(state, context.now_micros),
    )


def _give_back(state: AccountState, found: Refundable, nanos: int) -> tuple[LotUse, ...]:
    taken: dict[str, int] = {}
    for use in found.charge.lots:
        taken[use.lot_id] = taken.get(use.lot_id, 0) + use.nanos
    uses: list[LotUse] = []
    for lot_id in reversed(taken):
        part = min(taken[lot_id] - found.returned.get(lot_id, 0), nanos)
        if part:
            state.lots[lot_id].remaining_nanos += part
            found.returned[lot_id] = found.returned.get(lot_id, 0) + part
            uses.append(LotUse(lot_id, part, False))
            nanos -= part
    assert not nanos, "more is given back than was taken"
    return tuple(uses)
