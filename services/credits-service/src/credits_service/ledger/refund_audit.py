"""What must be true of the refunds of a charge. Pure."""

from collections.abc import Sequence

from credits_service.ledger.journal import Transaction
from credits_service.ledger.refunds import returned_by
from credits_service.ledger.violations import Violations


def audit_refunds(
    charge: Transaction | None, refunds: Sequence[Transaction], violations: Violations
) -> None:
    """Compare refunds with what they reverse.

    Args:
        charge: what the refunds name; None if there is no such transaction.
        refunds: all refunds that name it.
        violations: where what is wrong is noted.
    """
    for refund in refunds:
        known = charge is not None and charge.kind == "charge"
        own = charge is not None and charge.user_id == refund.user_id
        violations.require("15 a refund reverses a charge", known and own, refund)
    if charge is None or not refunds:
        return
    total = sum(refund.amount_nanos for refund in refunds)
    violations.require("15 refunds within the charge", total <= -charge.amount_nanos, charge)
    taken = returned_by([charge])
    for lot_id, nanos in returned_by(refunds).items():
        violations.require(
            "10 refunded credit is back in its lot", nanos <= taken.get(lot_id, 0), charge
        )
