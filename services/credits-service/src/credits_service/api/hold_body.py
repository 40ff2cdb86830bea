"""How holds are written."""

import msgspec

from credits_service.api.wire import HoldBody, HoldResponse
from credits_service.core.moments import moment_or_none, rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.ledger.answers import Standing
from credits_service.ledger.state import Hold


def hold_body(hold: Hold) -> HoldBody:
    """Write a hold."""
    return HoldBody(
        hold_id=hold.id,
        user_id=hold.user_id,
        status=hold.status,
        amount=usd_from_nanos(hold.amount_nanos),
        captured=usd_from_nanos(hold.captured_nanos),
        progress=usd_from_nanos(hold.progress_nanos),
        request_ref=hold.request_ref,
        key_id=hold.key_id,
        created_at=rfc3339(hold.created_at_micros),
        expires_at=rfc3339(hold.expires_at_micros),
        ended_at=moment_or_none(hold.ended_at_micros),
    )


def hold_response(hold: Hold, standing: Standing) -> HoldResponse:
    """Write a hold with its account's figures."""
    return HoldResponse(
        **msgspec.structs.asdict(hold_body(hold)),
        balance=usd_from_nanos(standing.balance_nanos),
        held=usd_from_nanos(standing.held_nanos),
        available=usd_from_nanos(standing.available_nanos),
        spendable=usd_from_nanos(standing.spendable_nanos),
        seq=standing.seq,
    )
