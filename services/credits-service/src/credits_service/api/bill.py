"""`POST /bill`: the one way credit is taken."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.amounts import amount_nanos
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import invalid
from credits_service.api.requests import document, read
from credits_service.api.services import submit
from credits_service.api.wire import BillResponse
from credits_service.api.wire_requests import BillRequest
from credits_service.core.money import nanos_ceil
from credits_service.ledger.operations import Charge
from credits_service.middleware.auth import BILL, authorized
from service_kit.errors import ServiceError

router = APIRouter(tags=["billing"])

decoder = msgspec.json.Decoder(BillRequest)
_EXACT_COST = "exact_cost_pico"
_MAX_EXACT_DIGITS = 24


@router.post(
    "/bill",
    summary="Take credit, at once or as the capture of a hold",
    **documented(
        request=BillRequest,
        response=BillResponse,
        problems=(400, 402, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=False)],
    ),
)
async def bill(request: Request) -> Response:
    """Charge an account."""
    principal = authorized(request, BILL)
    body = await read(request, decoder)
    return await submit(request, principal, operation_from(body))


def operation_from(body: BillRequest) -> Charge:
    """Return what a body asks for.

    Raises:
        ServiceError: 422, a field is wrong.
    """
    nanos = amount_nanos("amount", body.amount)
    return Charge(
        user_id=body.user_id,
        amount_nanos=nanos,
        description=body.description,
        hold_id=body.hold_id,
        final=body.final,
        usage=document("usage", body.usage),
        price=document("price", body.price),
        metadata=document("metadata", body.metadata),
        exact_cost_picos=_exact_cost(body, nanos),
        key_id=body.key_id,
    )


def _exact_cost(body: BillRequest, charged_nanos: int) -> int | None:
    """Return the exact cost that the price tells, which the amount must be rounded up from."""
    cost = (body.price or {}).get(_EXACT_COST)
    if cost is None:
        return None
    if isinstance(cost, str) and cost.isascii() and cost.isdigit():
        if len(cost) > _MAX_EXACT_DIGITS:
            raise _wrong_cost("is too large")
        cost = int(cost)
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise _wrong_cost("must be a whole number of pico-USD")
    if nanos_ceil(cost) != charged_nanos:
        raise _wrong_cost("rounded up to a nano-USD is not the amount")
    return cost


def _wrong_cost(reason: str) -> ServiceError:
    return invalid(f"price.{_EXACT_COST}", reason)
