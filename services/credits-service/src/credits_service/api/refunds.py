"""`POST /transactions/{id}/refund`: give back what a charge took."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.amounts import optional_nanos
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import transaction_unknown
from credits_service.api.requests import read
from credits_service.api.services import submit
from credits_service.api.wire import RefundResponse
from credits_service.api.wire_requests import RefundRequest
from credits_service.ledger.operations import Refund
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(prefix="/transactions", tags=["credit"])

decoder = msgspec.json.Decoder(RefundRequest)


@router.post(
    "/{transaction_id}/refund",
    summary="Give back what a charge took, or a part of it",
    **documented(
        request=RefundRequest,
        response=RefundResponse,
        status=201,
        problems=(400, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=True)],
    ),
)
async def refund(request: Request, transaction_id: str) -> Response:
    """Refund a charge into the lots that it took from; never more than it took."""
    principal = authorized(request, ADMIN)
    body = await read(request, decoder)
    return await submit(request, principal, operation_from(body, transaction_id), key_required=True)


def operation_from(body: RefundRequest, transaction_id: str) -> Refund:
    """Return the operation that a body asks for.

    Raises:
        ServiceError: 404, no transaction can have this id; 422, a field is wrong.
    """
    if not transaction_id.isascii() or not transaction_id.isprintable():
        raise transaction_unknown(transaction_id)
    return Refund(
        transaction_id=transaction_id,
        reason=body.reason,
        amount_nanos=optional_nanos("amount", body.amount),
    )
