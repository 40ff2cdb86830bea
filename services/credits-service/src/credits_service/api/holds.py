"""`/holds`: reserve credit for a request, raise it while it runs, return what is left."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.amounts import amount_nanos, optional_nanos, optional_progress_nanos
from credits_service.api.hold_body import hold_response
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import hold_unknown, invalid
from credits_service.api.requests import read
from credits_service.api.responses import json_response
from credits_service.api.services import HoldLimits, services_of, submit
from credits_service.api.wire import HoldResponse
from credits_service.api.wire_requests import HoldPatch, HoldRequest
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.ledger.context import standing
from credits_service.ledger.operations import AmendHold, PlaceHold, ReleaseHold
from credits_service.ledger.view import as_of
from credits_service.middleware.auth import BILL, READ, authorized

router = APIRouter(prefix="/holds", tags=["holds"])

request_decoder = msgspec.json.Decoder(HoldRequest)
patch_decoder = msgspec.json.Decoder(HoldPatch)


def _ttl_micros(ttl_seconds: int, limits: HoldLimits) -> int:
    if ttl_seconds > limits.max_seconds:
        raise invalid("ttl_s", f"must be at most {limits.max_seconds}")
    return ttl_seconds * MICROS_PER_SECOND


def _existing(hold_id: str) -> str:
    """Return the path's hold id; what is no identifier can't be asked of the database."""
    if not hold_id.isascii() or not hold_id.isprintable():
        raise hold_unknown(hold_id)
    return hold_id


def placing(body: HoldRequest, limits: HoldLimits) -> PlaceHold:
    """Return what a body asks for.

    Raises:
        ServiceError: 422, a field is wrong.
    """
    amount = amount_nanos("amount", body.amount)
    minimum = optional_nanos("min_amount", body.min_amount)
    if minimum is not None and minimum > amount:
        raise invalid("min_amount", "must not be larger than amount")
    ttl_seconds = limits.default_seconds if body.ttl_s is None else body.ttl_s
    return PlaceHold(
        user_id=body.user_id,
        amount_nanos=amount,
        ttl_micros=_ttl_micros(ttl_seconds, limits),
        min_amount_nanos=minimum,
        request_ref=body.request_ref,
        key_id=body.key_id,
    )


def amending(hold_id: str, body: HoldPatch, limits: HoldLimits) -> AmendHold:
    """Return what a body asks for.

    Raises:
        ServiceError: 404, no hold can have this id; 422, a field is wrong.
    """
    return AmendHold(
        hold_id=_existing(hold_id),
        amount_nanos=optional_nanos("amount", body.amount),
        ttl_micros=None if body.ttl_s is None else _ttl_micros(body.ttl_s, limits),
        progress_nanos=optional_progress_nanos("progress", body.progress),
    )


def releasing(hold_id: str) -> ReleaseHold:
    """Return the release of a hold.

    Raises:
        ServiceError: 404, no hold can have this id.
    """
    return ReleaseHold(_existing(hold_id))


@router.post(
    "",
    summary="Reserve an amount, or what is available down to a minimum",
    **documented(
        request=HoldRequest,
        response=HoldResponse,
        status=201,
        problems=(400, 402, 403, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=True)],
    ),
)
async def place(request: Request) -> Response:
    """Place a hold."""
    principal = authorized(request, BILL)
    body = await read(request, request_decoder)
    operation = placing(body, services_of(request).hold_limits)
    return await submit(request, principal, operation, key_required=True)


@router.patch(
    "/{hold_id}",
    summary="Raise, extend, report progress",
    **documented(
        request=HoldPatch,
        response=HoldResponse,
        problems=(400, 402, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=False)],
    ),
)
async def amend(request: Request, hold_id: str) -> Response:
    """Amend a hold; each value is a floor, so that repeating a call changes nothing."""
    principal = authorized(request, BILL)
    body = await read(request, patch_decoder)
    operation = amending(hold_id, body, services_of(request).hold_limits)
    return await submit(request, principal, operation)


@router.delete(
    "/{hold_id}",
    summary="Return what the hold reserves",
    **documented(
        response=HoldResponse,
        problems=(404, 409, 422),
        parameters=[idempotency_key_parameter(required=False)],
    ),
)
async def release(request: Request, hold_id: str) -> Response:
    """Release a hold; one that has ended stays as it is."""
    principal = authorized(request, BILL)
    return await submit(request, principal, releasing(hold_id))


@router.get(
    "/{hold_id}",
    summary="Read a hold",
    **documented(response=HoldResponse, problems=(404,)),
)
async def read_hold(request: Request, hold_id: str) -> Response:
    """Show a hold and its account's figures, as they are at this moment."""
    authorized(request, READ)
    found = await services_of(request).queries.hold(_existing(hold_id))
    if found is None:
        raise hold_unknown(hold_id)
    hold, snapshot = found
    state = as_of(snapshot.state, snapshot.now_micros)
    figures = standing(state, snapshot.now_micros, state.key(hold.key_id))
    return json_response(hold_response(state.holds.get(hold.id, hold), figures))
