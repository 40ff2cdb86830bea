"""`PATCH /accounts/{user_id}`: freeze, open, close; spend limits; when a balance is low."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.amounts import optional_nanos
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import account_unknown, invalid
from credits_service.api.requests import is_user_id, read
from credits_service.api.services import submit
from credits_service.api.wire import AccountResponse
from credits_service.api.wire_requests import AccountPatch
from credits_service.ledger.operations import ChangeAccount
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(prefix="/accounts", tags=["accounts"])

_decoder = msgspec.json.Decoder(AccountPatch)


@router.patch(
    "/{user_id:path}",
    summary="Freeze, open or close an account; set its limits",
    **documented(
        request=AccountPatch,
        response=AccountResponse,
        problems=(400, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=False)],
    ),
)
async def change(request: Request, user_id: str) -> Response:
    """Change an account; the journal keeps who changed what and when."""
    principal = authorized(request, ADMIN)
    body = await read(request, _decoder)
    return await submit(request, principal, operation_from(body, user_id))


def operation_from(body: AccountPatch, user_id: str) -> ChangeAccount:
    """Return the operation that a body asks for.

    Raises:
        ServiceError: 404, no account can have this id; 422, a field is wrong.
    """
    if not is_user_id(user_id):
        raise account_unknown(user_id)
    if body.forfeit and body.status != "closed":
        raise invalid("forfeit", 'goes with "status": "closed" only')
    limits = body.limits
    wanted: dict[str, tuple[str, msgspec.Raw | msgspec.UnsetType]] = {
        "low_balance_nanos": ("low_balance", body.low_balance)
    }
    if limits is not None:
        wanted["limit_day_nanos"] = ("limits.day", limits.day)
        wanted["limit_month_nanos"] = ("limits.month", limits.month)
        wanted["limit_total_nanos"] = ("limits.total", limits.total)
    return ChangeAccount(
        user_id=user_id,
        status=body.status,
        forfeit=body.forfeit,
        settings={
            name: optional_nanos(field, value)
            for name, (field, value) in wanted.items()
            if not isinstance(value, msgspec.UnsetType)
        },
    )
