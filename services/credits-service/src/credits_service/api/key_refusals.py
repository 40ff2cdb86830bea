"""`POST /keys/refusals`: uses of issued keys that somebody else refused, for the record."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.openapi import documented
from credits_service.api.requests import read
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.wire_keys import RefusalReport, RefusalsNoted
from credits_service.db.key_writes import Actor
from credits_service.middleware.auth import BILL, authorized
from service_kit.request_id import current_request_id

router = APIRouter(prefix="/keys", tags=["keys"])

_decoder = msgspec.json.Decoder(RefusalReport)


@router.post(
    "/refusals",
    summary="Put refused uses of keys on their records",
    **documented(request=RefusalReport, response=RefusalsNoted, problems=(400, 403, 413, 422)),
)
async def report(request: Request) -> Response:
    """Note refusals; they are written within seconds, those of unknown keys never."""
    principal = authorized(request, BILL)
    body = await read(request, _decoder)
    services = services_of(request)
    async with services.queries.connection() as connection:
        now_micros = await services.queries.now(connection)
    for uses in body.refusals:
        actor = Actor(principal.name, uses.request_id or current_request_id())
        services.key_uses.refused(uses.key_id, uses.reason, actor, now_micros, uses.count)
    return json_response(RefusalsNoted(len(body.refusals)))
