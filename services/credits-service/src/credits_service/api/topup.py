"""`POST /topup`: add credit."""

from datetime import datetime

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import invalid
from credits_service.api.requests import amount_nanos, read
from credits_service.api.services import submit
from credits_service.api.wire import TopUpRequest, TopUpResponse
from credits_service.core.moments import MAX_MICROS, micros_from_datetime
from credits_service.ledger.operations import TopUp
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(tags=["credit"])

_decoder = msgspec.json.Decoder(TopUpRequest)


@router.post(
    "/topup",
    summary="Add a lot of credit; makes the account if it is new",
    **documented(
        request=TopUpRequest,
        response=TopUpResponse,
        status=201,
        problems=(400, 403, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=True)],
    ),
)
async def top_up(request: Request) -> Response:
    """Top up an account."""
    principal = authorized(request, ADMIN)
    body = await read(request, _decoder)
    operation = TopUp(
        user_id=body.user_id,
        amount_nanos=amount_nanos("amount", body.amount),
        source=body.source,
        priority=body.priority,
        expires_at_micros=_moment(body.expires_at),
        reference=body.reference,
        description=body.description,
    )
    return await submit(request, principal, operation, key_required=True)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise invalid("expires_at", "must be an RFC 3339 moment with its time zone")
    micros = micros_from_datetime(moment)
    if micros > MAX_MICROS:
        raise invalid("expires_at", "must be before the year 10000")
    return micros
