"""`GET /integrity`: every invariant, checked over one snapshot of the ledger."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.openapi import documented
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.wire import IntegrityResponse, ViolationBody
from credits_service.db.audit import audit
from credits_service.middleware.auth import ADMIN, authorized

router = APIRouter(tags=["integrity"])


@router.get(
    "/integrity",
    summary="Check every invariant",
    **documented(response=IntegrityResponse, problems=(403,)),
)
async def integrity(request: Request) -> Response:
    """Recompute the ledger from its journal and say what does not agree."""
    authorized(request, ADMIN)
    async with services_of(request).queries.connection() as connection:
        found = await audit(connection)
    violations = [ViolationBody(*violation) for violation in found.violations]
    return json_response(
        IntegrityResponse(not violations, found.accounts, found.transactions, violations)
    )
