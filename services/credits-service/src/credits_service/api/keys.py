"""`/keys`: list issued keys, tell what happened to them, and whether one is accepted."""

import re

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.key_body import (
    accepted,
    event_body,
    key_body,
    key_detail,
    not_accepted,
)
from credits_service.api.key_changes import existing, key_unknown
from credits_service.api.openapi import documented, query_parameter
from credits_service.api.paging import CURSOR, LIMIT, bad_cursor, from_cursor, to_cursor
from credits_service.api.problems import invalid
from credits_service.api.requests import is_user_id, page_limit, read
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.wire_keys import (
    KeyDetail,
    KeyEventPage,
    KeyPage,
    Verdict,
    VerifyRequest,
)
from credits_service.db.key_writes import Actor
from credits_service.keys.rules import refusal
from credits_service.middleware.auth import ADMIN, READ, authorized
from service_kit.issued_keys import is_prefix, presented
from service_kit.request_id import current_request_id

router = APIRouter(prefix="/keys", tags=["keys"])

_decoder = msgspec.json.Decoder(VerifyRequest)
_ACCOUNT = query_parameter("account", {"type": "string"}, "Only this account's.")
_PREFIX = query_parameter(
    "prefix", {"type": "string"}, "Only the key that has, or had, a secret with this prefix."
)
_KEY_ID = re.compile(r"[0-9a-f-]{36}")
_SEQ_MAX = 2**53


@router.post(
    "/verify",
    summary="Tell whether a presented key is accepted, and what it may do",
    **documented(request=VerifyRequest, response=Verdict, problems=(400, 403, 413, 422)),
)
async def verify(request: Request) -> Response:
    """Look a key up; how long a refusal takes tells nothing of any key."""
    principal = authorized(request, READ)
    body = await read(request, _decoder)
    services = services_of(request)
    shown = presented(body.key)
    if shown is None:
        services.metrics.keys_verified.labels("unknown").inc()
        return json_response(not_accepted("unknown"))
    key, secret, now_micros = await services.key_queries.presented(shown)
    reason = refusal(key, secret, shown, now_micros)
    services.metrics.keys_verified.labels(reason or "active").inc()
    if key is not None and secret is not None and reason is None:
        services.key_uses.used(key.id, now_micros)
        return json_response(accepted(key, secret, now_micros))
    if key is not None and reason is not None:
        actor = Actor(principal.name, current_request_id())
        services.key_uses.refused(key.id, reason, actor, now_micros)
    return json_response(not_accepted(reason or "unknown", key))


@router.get(
    "",
    summary="List keys, newest first",
    **documented(
        response=KeyPage, problems=(403, 422), parameters=[LIMIT, CURSOR, _ACCOUNT, _PREFIX]
    ),
)
async def list_keys(request: Request) -> Response:
    """List keys, revoked ones as well; none of their secrets."""
    authorized(request, ADMIN)
    limit = page_limit(request)
    account, prefix = (request.query_params.get(name) for name in ("account", "prefix"))
    if account is not None and not is_user_id(account):
        raise invalid("account", "must be an account's user_id")
    if prefix is not None and not is_prefix(prefix):
        raise invalid("prefix", "must be the 8 characters between sk- and the next -")
    found, now_micros = await services_of(request).key_queries.keys(
        limit=limit + 1, before=_key_id_from(request), account=account, prefix=prefix
    )
    page = found[:limit]
    cursor = to_cursor(page[-1].key.id) if len(found) > limit else None
    return json_response(KeyPage([key_body(record, now_micros) for record in page], cursor))


@router.get(
    "/{key_id}",
    summary="Read a key, and what it has spent",
    **documented(response=KeyDetail, problems=(403, 404)),
)
async def read_key(request: Request, key_id: str) -> Response:
    """Show a key as it is at this moment; its secret is not kept."""
    authorized(request, ADMIN)
    queries = services_of(request).key_queries
    found, now_micros = await queries.keys(limit=1, key_id=existing(key_id))
    if not found:
        raise key_unknown()
    spending = await queries.spending(key_id)
    return json_response(key_detail(found[0], spending, now_micros))


@router.get(
    "/{key_id}/events",
    summary="Tell what happened to a key, newest first",
    **documented(response=KeyEventPage, problems=(403, 404, 422), parameters=[LIMIT, CURSOR]),
)
async def list_events(request: Request, key_id: str) -> Response:
    """List who made, changed, rotated and revoked a key, and when it was refused."""
    authorized(request, ADMIN)
    limit = page_limit(request)
    found = await services_of(request).key_queries.events(
        existing(key_id), before=_seq_from(request), limit=limit + 1
    )
    if found is None:
        raise key_unknown()
    page = found[:limit]
    cursor = to_cursor(page[-1].seq) if len(found) > limit else None
    return json_response(KeyEventPage(list(map(event_body, page)), cursor))


def _key_id_from(request: Request) -> str | None:
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return None
    key_id = from_cursor(cursor, str)
    if not _KEY_ID.fullmatch(key_id):
        raise bad_cursor()
    return key_id


def _seq_from(request: Request) -> int | None:
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return None
    seq = from_cursor(cursor, int)
    if not 0 < seq <= _SEQ_MAX:
        raise bad_cursor()
    return seq
