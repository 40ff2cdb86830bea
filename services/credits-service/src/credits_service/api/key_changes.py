"""`/keys`: make an issued key, change it, give it a new secret, revoke it."""

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.key_body import settings_from
from credits_service.api.openapi import documented, idempotency_key_parameter
from credits_service.api.problems import problem_of
from credits_service.api.requests import idempotency_key, read
from credits_service.api.services import services_of
from credits_service.api.wire_keys import (
    IssuedKeyBody,
    KeyBody,
    KeyPatch,
    KeyRequest,
    RotateRequest,
)
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.key_writes import Actor, Call, KeyChangeRefusedError, KeyMissing
from credits_service.db.keys import Changed
from credits_service.keys.secret import NewSecret, make_secret
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.middleware.auth import ADMIN, authorized
from service_kit.errors import ServiceError
from service_kit.keys import Principal
from service_kit.request_id import current_request_id

router = APIRouter(prefix="/keys", tags=["keys"])

_request_decoder = msgspec.json.Decoder(KeyRequest)
_patch_decoder = msgspec.json.Decoder(KeyPatch)
_rotate_decoder = msgspec.json.Decoder(RotateRequest)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What a new key has unless its body says otherwise.
_UNLIMITED: dict[str, Any] = {
    "limit_day_nanos": None,
    "limit_month_nanos": None,
    "limit_total_nanos": None,
}


@router.post(
    "",
    summary="Make a key; the only answer that shows it",
    **documented(
        request=KeyRequest,
        response=IssuedKeyBody,
        status=201,
        repeated=KeyBody,
        problems=(400, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=True)],
    ),
)
async def create(request: Request) -> Response:
    """Make a key for an account that is there; a repetition is answered 200, without the key."""
    principal = authorized(request, ADMIN)
    body = await read(request, _request_decoder)
    settings = {**_UNLIMITED, **settings_from(body), "account": body.account}
    asked = ("create_key", settings | {"metadata": body.metadata})
    call = _call(request, principal, asked, key_required=True)
    secret = make_secret()
    try:
        done = await services_of(request).keys.create(settings, secret, call)
    except KeyChangeRefusedError as refused:
        raise _problem(refused) from None
    return _with_secret(done, secret, HTTPStatus.CREATED)


@router.patch(
    "/{key_id}",
    summary="Change a key's name, limits, models, expiry; disable or enable it",
    **documented(
        request=KeyPatch,
        response=KeyBody,
        problems=(400, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=False)],
    ),
)
async def change(request: Request, key_id: str) -> Response:
    """Change a key; its events keep who changed what, from what and to what."""
    principal = authorized(request, ADMIN)
    body = await read(request, _patch_decoder)
    settings = settings_from(body)
    named = {"metadata": body.metadata} if "metadata" in settings else {}
    call = _call(request, principal, ("change_key", key_id, settings | named))
    try:
        done = await services_of(request).keys.change(existing(key_id), settings, call)
    except KeyChangeRefusedError as refused:
        raise _problem(refused) from None
    return _response(done)


@router.post(
    "/{key_id}/rotate",
    summary="Give a key a new secret; the only answer that shows it",
    **documented(
        request=RotateRequest,
        response=IssuedKeyBody | KeyBody,
        problems=(400, 403, 404, 409, 413, 422),
        parameters=[idempotency_key_parameter(required=True)],
    ),
)
async def rotate(request: Request, key_id: str) -> Response:
    """Rotate a key; a repetition is answered without the key."""
    principal = authorized(request, ADMIN)
    body = await read(request, _rotate_decoder)
    asked = ("rotate_key", key_id, body.grace_seconds)
    call = _call(request, principal, asked, key_required=True)
    secret, grace_micros = make_secret(), body.grace_seconds * MICROS_PER_SECOND
    try:
        done = await services_of(request).keys.rotate(
            existing(key_id), secret, grace_micros=grace_micros, call=call
        )
    except KeyChangeRefusedError as refused:
        raise _problem(refused) from None
    return _with_secret(done, secret, HTTPStatus.OK)


@router.delete(
    "/{key_id}",
    summary="Revoke a key, for good",
    **documented(response=KeyBody, problems=(403, 404)),
)
async def revoke(request: Request, key_id: str) -> Response:
    """Revoke a key and all its secrets; one that is revoked stays as it is."""
    principal = authorized(request, ADMIN)
    call = Call(Actor(principal.name, current_request_id()), ("revoke_key", key_id), None)
    try:
        return _response(await services_of(request).keys.revoke(existing(key_id), call))
    except KeyChangeRefusedError as refused:
        raise _problem(refused) from None


def existing(key_id: str) -> str:
    """Return the path's key id; what is no identifier can't be asked of the database.

    Raises:
        ServiceError: 404.
    """
    if not key_id.isascii() or not key_id.isprintable():
        raise key_unknown()
    return key_id


def key_unknown() -> ServiceError:
    """Return the problem of a key that was never issued.

    The id is not repeated: somebody may have written the key itself in its place.
    """
    return ServiceError("There is no key with this id.", status=404, code="key_not_found")


def _call(
    request: Request, principal: Principal, asked: tuple[Any, ...], *, key_required: bool = False
) -> Call:
    key = idempotency_key(request, required=key_required)
    return Call(
        Actor(principal.name, current_request_id()),
        asked,
        None if key is None else IdempotencyKey(principal.name, key),
    )


def _problem(refused: KeyChangeRefusedError) -> ServiceError:
    refusal = refused.refusal
    if not isinstance(refusal, KeyMissing):
        return problem_of(refusal)
    if refusal.reason == "unknown":
        return key_unknown()
    return ServiceError(
        "The key is revoked, for good. Make a new one.",
        status=409,
        code="key_revoked",
        extra={"key_id": refusal.key_id},
    )


def _with_secret(done: Changed, secret: NewSecret, status: int) -> Response:
    """Add the key to the first answer, and to no other."""
    if done.replayed:
        return _response(done)
    shown = {**_members.decode(done.body), "key": secret.text}
    return _json(msgspec.json.encode(shown), status)


def _response(done: Changed) -> Response:
    response = _json(done.body, HTTPStatus.OK)
    if done.replayed:
        response.headers["idempotency-replayed"] = "true"
    return response


def _json(body: bytes, status: int) -> Response:
    return Response(body, status, {"content-type": "application/json"})
