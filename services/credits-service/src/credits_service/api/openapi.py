"""The OpenAPI document: made of the msgspec types that requests are really checked with."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, get_args

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from credits_service.api import wire, wire_keys, wire_reads, wire_requests
from credits_service.api.problems import PROBLEM_JSON

_REF = "#/components/schemas/{name}"
_TYPES: tuple[type[msgspec.Struct], ...] = (
    wire_requests.BillRequest,
    wire.BillResponse,
    wire_requests.HoldRequest,
    wire_requests.HoldPatch,
    wire.HoldResponse,
    wire_requests.TopUpRequest,
    wire.TopUpResponse,
    wire_requests.RefundRequest,
    wire.RefundResponse,
    wire_requests.AccountPatch,
    wire.AccountResponse,
    wire_reads.AccountPage,
    wire_reads.TransactionPage,
    wire_reads.IntegrityResponse,
    wire_reads.BalanceAt,
    wire_reads.TransactionResponse,
    wire_reads.HoldPage,
    wire_reads.StatementResponse,
    wire_requests.BatchRequest,
    wire_requests.BatchItem,
    wire_reads.BatchResponse,
    wire_keys.KeyRequest,
    wire_keys.KeyPatch,
    wire_keys.RotateRequest,
    wire_keys.VerifyRequest,
    wire_keys.KeyBody,
    wire_keys.KeyDetail,
    wire_keys.IssuedKeyBody,
    wire_keys.KeyPage,
    wire_keys.KeyEventPage,
    wire_keys.Verdict,
    wire_keys.RefusalReport,
    wire_keys.RefusalsNoted,
    wire.Problem,
)
_PROBLEMS: Mapping[int, str] = {
    400: "This is no HTTP, the body is no JSON, or a required Idempotency-Key is missing.",
    401: "No key, or one that is not accepted.",
    402: "The account can't pay: proven while it was locked.",
    403: "The key is not for this, or the account is frozen.",
    404: "No such account, hold, transaction or key.",
    408: "The request did not arrive in time.",
    409: "In conflict with the state: hold ended, account closed, reference used, and the like; "
    "or the first request with this Idempotency-Key is still running.",
    413: "The body is too large.",
    414: "The URL is too long.",
    422: "A field is wrong.",
    429: "Too many requests without an accepted key came from this address.",
    431: "The headers are too large, or too many.",
    500: "The service failed.",
    503: "The ledger can't be reached: nothing is known. Retry, with the same key.",
}
# Whatever is asked for.
_ALWAYS = (400, 408, 413, 414, 431, 500)
# Where a key is needed, and the ledger.
_OF_THE_API = (401, 429, 503)
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "In how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_REQUEST_ID: dict[str, Any] = {
    "X-Request-Id": {
        "description": "What the journal and the log call this request.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    }
}
_REPLAYED: dict[str, Any] = {
    "Idempotency-Replayed": {
        "description": "There, if this is the answer that the first request got.",
        "schema": {"enum": ["true"]},
    }
}
_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"enum": ["Bearer"]}}},
    409: _RETRY_AFTER,
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
# What is remembered under an idempotency key, beside what was done.
_REMEMBERED = 402
_KEY_HEADER = "Idempotency-Key"

Body = type[msgspec.Struct] | UnionType


def _schema(body: Body) -> dict[str, Any]:
    references = [{"$ref": _REF.format(name=each.__name__)} for each in get_args(body) or (body,)]
    return references[0] if len(references) == 1 else {"anyOf": references}


def _answer(
    description: str, content: Mapping[str, dict[str, Any]], headers: Mapping[str, Any]
) -> dict[str, Any]:
    described = {media_type: {"schema": schema} for media_type, schema in content.items()}
    return {"description": description, "content": described, "headers": {**_REQUEST_ID, **headers}}


def _problems(statuses: set[int]) -> dict[int | str, dict[str, Any]]:
    content = {PROBLEM_JSON: _schema(wire.Problem)}
    return {
        status: _answer(_PROBLEMS[status], content, _HEADERS.get(status, {}))
        for status in sorted(statuses)
    }


def documented(
    *,
    request: type[msgspec.Struct] | None = None,
    response: Body,
    status: int = 200,
    problems: Sequence[int] = (),
    parameters: Sequence[dict[str, Any]] = (),
    repeated: Body | None = None,
    further: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what a route says of itself, as arguments of the router's decorator.

    Args:
        request: type of the body, if there is one.
        response: type of the answer.
        status: status of the answer.
        problems: statuses of the errors besides those that every route has.
        parameters: query and header parameters.
        repeated: type of the answer to a repetition, if that is another one; its status is 200.
        further: further media types of the answer, each with its schema.
    """
    extra: dict[str, Any] = {"parameters": list(parameters)}
    if request is not None:
        body = {"application/json": {"schema": _schema(request)}}
        extra["requestBody"] = {"required": True, "content": body}
    replayed = _REPLAYED if any(each["name"] == _KEY_HEADER for each in parameters) else {}
    first = {} if repeated is not None else replayed
    content = {"application/json": _schema(response), **(further or {})}
    responses: dict[int | str, dict[str, Any]] = {status: _answer("Done.", content, first)}
    if repeated is not None:
        again = {"application/json": _schema(repeated)}
        responses[200] = _answer("Was done before.", again, replayed)
    responses |= _problems({*_ALWAYS, *_OF_THE_API, *problems})
    if _REMEMBERED in problems:
        responses[_REMEMBERED]["headers"] |= replayed
    return {
        "status_code": status,
        "responses": responses,
        "openapi_extra": extra,
        "response_model": None,
    }


def documented_without_key(
    answers: str, content: Mapping[str, dict[str, Any]], *problems: int
) -> dict[str, Any]:
    """Return what a route says of itself that operators and orchestrators ask without a key.

    Args:
        answers: what the answer tells.
        content: media types of the answer, each with its schema.
        problems: statuses of the errors besides those that every one of them has.
    """
    return {
        "responses": {200: _answer(answers, content, {}), **_problems({*_ALWAYS, *problems})},
        "openapi_extra": {"security": []},
        "response_model": None,
    }


def idempotency_key_parameter(*, required: bool) -> dict[str, Any]:
    """Describe the header that makes a retry safe."""
    return {
        "name": _KEY_HEADER,
        "in": "header",
        "required": required,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        "description": "The same key and body give the same answer again, and change nothing.",
    }


def query_parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Describe a query parameter."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def install_openapi(app: FastAPI) -> None:
    """Let the app's document carry the schemas of the msgspec types."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _refs, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
            parts = document.setdefault("components", {})
            parts["schemas"] = components
            _forget_validation_errors(document)
            parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"bearer": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _forget_validation_errors(document: dict[str, Any]) -> None:
    """Take out the 422 that FastAPI adds to each path with an id: ours are problems."""
    for path in document["paths"].values():
        for operation in path.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
