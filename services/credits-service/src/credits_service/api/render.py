"""How the rules' answers are written as HTTP responses."""

from http import HTTPStatus

import msgspec

from credits_service.api.account_body import account_body
from credits_service.api.hold_body import hold_response
from credits_service.api.problems import ProblemForm, problem_of
from credits_service.api.wire import BillResponse, Nothing, RefundResponse, TopUpResponse
from credits_service.core.moments import moment_or_none, rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.ledger.answers import (
    AccountChanged,
    Answer,
    Charged,
    HoldAnswer,
    HoldPlaced,
    Refunded,
    Settled,
    ToppedUp,
)

_encode = msgspec.json.Encoder().encode
_form = ProblemForm()


def render(answer: Answer, request_id: str) -> tuple[int, bytes]:
    """Return status and body: what is sent now, and again if the key is used again."""
    if isinstance(answer, Charged):  # the busiest first
        return HTTPStatus.OK, _encode(_bill(answer))
    status = HTTPStatus.OK
    body: msgspec.Struct
    match answer:
        case HoldPlaced():
            status, body = HTTPStatus.CREATED, hold_response(answer.hold, answer.standing)
        case HoldAnswer():
            body = hold_response(answer.hold, answer.standing)
        case ToppedUp():
            status, body = HTTPStatus.CREATED, _top_up(answer)
        case Refunded():
            status, body = HTTPStatus.CREATED, _refund(answer)
        case AccountChanged():
            body = account_body(answer.state, answer.now_micros)
        case Settled():
            body = Nothing()
        case _:
            problem = problem_of(answer)
            return problem.status, _form.render(problem, request_id)
    return status, _encode(body)


def _bill(charged: Charged) -> BillResponse:
    standing = charged.standing
    return BillResponse(
        transaction_id=charged.transaction_id,
        user_id=standing.user_id,
        amount=usd_from_nanos(charged.charged_nanos),
        requested=usd_from_nanos(charged.requested_nanos),
        settled_before=usd_from_nanos(charged.settled_before_nanos),
        shortfall=usd_from_nanos(charged.shortfall_nanos),
        balance=usd_from_nanos(standing.balance_nanos),
        held=usd_from_nanos(standing.held_nanos),
        available=usd_from_nanos(standing.available_nanos),
        seq=charged.seq,
        hold_id=charged.hold_id,
        booked_at=rfc3339(charged.booked_at_micros),
    )


def _top_up(topped_up: ToppedUp) -> TopUpResponse:
    standing = topped_up.standing
    return TopUpResponse(
        transaction_id=topped_up.transaction_id,
        lot_id=topped_up.lot_id,
        user_id=standing.user_id,
        amount=usd_from_nanos(topped_up.amount_nanos),
        expires_at=moment_or_none(topped_up.expires_at_micros),
        reference=topped_up.reference,
        balance=usd_from_nanos(standing.balance_nanos),
        held=usd_from_nanos(standing.held_nanos),
        available=usd_from_nanos(standing.available_nanos),
        seq=standing.seq,
        booked_at=rfc3339(topped_up.booked_at_micros),
    )


def _refund(refunded: Refunded) -> RefundResponse:
    standing = refunded.standing
    return RefundResponse(
        transaction_id=refunded.transaction_id,
        reverses_id=refunded.reverses_id,
        user_id=standing.user_id,
        amount=usd_from_nanos(refunded.amount_nanos),
        refunded=usd_from_nanos(refunded.refunded_nanos),
        refundable=usd_from_nanos(refunded.refundable_nanos),
        reason=refunded.reason,
        balance=usd_from_nanos(standing.balance_nanos),
        held=usd_from_nanos(standing.held_nanos),
        available=usd_from_nanos(standing.available_nanos),
        seq=standing.seq,
        booked_at=rfc3339(refunded.booked_at_micros),
    )
