"""The OpenAPI document: made of the msgspec types that requests are really checked with."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    wire.Problem,
)
_PROBLEMS: Mapping[int, str] = {
    400: "The body is no JSON, or a required Idempotency-Key is missing.",
    401: "No key, or one that is not accepted.",
    402: "The account can't pay: proven while it was locked.",
    403: "The key is not for this, or the account is frozen.",
    404: "No such account, hold, transaction or key.",
    409: "In conflict with the state: hold ended, account closed, reference used, and the like.",
    413: "The body is too large.",
    422: "A field is wrong.",
    503: "The ledger can't be reached: nothing is known. Retry, with the same key.",
}
_ALWAYS = (401, 503)


def _content(schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF.format(name=schema)}}}


def documented(
    *,
    request: type[msgspec.Struct] | None = None,
    response: type[msgspec.Struct],
    status: int = 200,
    problems: Sequence[int] = (),
    parameters: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return what a route says of itself, as arguments of the router's decorator.

    Args:
        request: type of the body, if there is one.
        response: type of the answer.
        status: status of the answer.
        problems: statuses of the errors besides those that every route has.
        parameters: query and header parameters.
    """
    extra: dict[str, Any] = {"parameters": list(parameters)}
    if request is not None:
        extra["requestBody"] = {"required": True, "content": _content(request.__name__)}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": "Done.", "content": _content(response.__name__)}
    }
    for problem in sorted({*_ALWAYS, *problems}):
        content = _content("Problem", PROBLEM_JSON)
        responses[problem] = {"description": _PROBLEMS[problem], "content": content}
    return {
        "status_code": status,
        "responses": responses,
        "openapi_extra": extra,
        "response_model": None,
    }


def idempotency_key_parameter(*, required: bool) -> dict[str, Any]:
    """Describe the header that makes a retry safe."""
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": required,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
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
