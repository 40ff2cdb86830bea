"""`GET /integrity`: every invariant, checked over one snapshot of the ledger."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.openapi import documented, query_parameter
from credits_service.api.paging import account_id
from credits_service.api.problems import account_unknown, invalid
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.wire_reads import IntegrityResponse, ViolationBody
from credits_service.db.audit import audit
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(tags=["integrity"])

_MAX_ACCOUNTS = 100
_USER_ID = query_parameter(
    "user_id",
    {"type": "array", "items": {"type": "string"}, "maxItems": _MAX_ACCOUNTS},
    "Check only this account; may be repeated.",
)


@router.get(
    "/integrity",
    summary="Check every invariant",
    **documented(response=IntegrityResponse, problems=(403, 404, 422), parameters=[_USER_ID]),
)
async def integrity(request: Request) -> Response:
    """Recompute the ledger from its journal and say what does not agree."""
    authorized(request, ADMIN)
    user_ids = request.query_params.getlist("user_id")
    if len(user_ids) > _MAX_ACCOUNTS:
        raise invalid("user_id", f"may be given {_MAX_ACCOUNTS} times")
    asked = set(map(account_id, user_ids))
    queries = services_of(request).queries
    async with queries.audit_connection() as connection:
        found = await audit(connection, user_ids=asked or None)
    if asked and found.accounts < len(asked):
        for user_id in user_ids:
            if not await queries.has_account(user_id):
                raise account_unknown(user_id)
    if not asked:
        services_of(request).metrics.money.checked(found.violations_total)
    violations = [ViolationBody(*violation) for violation in found.violations]
    return json_response(
        IntegrityResponse(
            ok=not violations,
            accounts=found.accounts,
            transactions=found.transactions,
            violations=violations,
            violations_total=found.violations_total,
        )
    )
