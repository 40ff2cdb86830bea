"""`POST /topup`: add credit."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.amounts import amount_nanos
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.requests import optional_moment, read
from credits_service.api.services import submit
from credits_service.api.wire import TopUpResponse
from credits_service.api.wire_requests import TopUpRequest
from credits_service.ledger.operations import TopUp
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(tags=["credit"])

decoder = msgspec.json.Decoder(TopUpRequest)


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
    body = await read(request, decoder)
    return await submit(request, principal, operation_from(body), key_required=True)


def operation_from(body: TopUpRequest) -> TopUp:
    """Return what a body asks for.

    Raises:
        ServiceError: 422, a field is wrong.
    """
    return TopUp(
        user_id=body.user_id,
        amount_nanos=amount_nanos("amount", body.amount),
        source=body.source,
        priority=body.priority,
        expires_at_micros=optional_moment("expires_at", body.expires_at),
        reference=body.reference,
        description=body.description,
    )
