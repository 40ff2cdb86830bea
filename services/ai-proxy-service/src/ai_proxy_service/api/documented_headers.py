"""What the OpenAPI document says of the headers of answers."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

Headers = dict[str, Any]


def _header(description: str, schema: Mapping[str, Any], *, always: bool = False) -> Headers:
    return {"description": description, "schema": {**schema}, "required": always}


_TEXT = {"type": "string"}
_USD = {"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?$"}
_COUNT = {"type": "integer", "minimum": 0}
_TRUE = {"enum": ["true"]}
_REQUEST_ID = {
    "X-Request-Id": _header(
        "What the log and the receipt call this request.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        always=True,
    )
}
_RETRY_AFTER = {
    "Retry-After": _header("In how many seconds to try again.", _COUNT),
    "Retry-After-Ms": _header("The same in milliseconds.", _COUNT),
}
_AVAILABLE = {"X-Credits-Available": _header("What the account has left, in USD.", _USD)}
_OF_STATUSES: Mapping[int, Headers] = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": _header("How to present a key.", {"enum": ["Bearer"]})
    },
    HTTPStatus.PAYMENT_REQUIRED: {
        **_AVAILABLE,
        "X-Credits-Required": _header("What the request needs, in USD.", _USD),
        "X-Credits-Waiting-Helps": _header(
            "Whether credit that running requests hold may become available.",
            {"enum": ["true", "false"]},
        ),
    },
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}
# Where a limit is on: which one a request meets first, and how far it is.
_RATE_LIMITS = {
    f"X-RateLimit-{what}-{unit}": _header(f"{meaning} of {unit.lower()} a minute.", schema)
    for unit in ("Requests", "Tokens")
    for what, meaning, schema in (
        ("Limit", "The limit", _COUNT),
        ("Remaining", "What is left", _COUNT),
        ("Reset", "Until all is left, as 1s or 6m0s,", _TEXT),
    )
}
IGNORED = {
    "X-Proxy-Ignored-Params": _header("What was asked for and has no effect, by commas.", _TEXT)
}
# Of answers that were paid for; those of a stream are sent before it is.
CREDITS = {
    **_AVAILABLE,
    **IGNORED,
    "X-Credits-Charged": _header("What the answer cost, in USD.", _USD),
    "X-Credits-Max-Output-Tokens": _header("What the credit let the limit be lowered to.", _COUNT),
    "X-Credits-Exhausted": _header("There, if credit cut the answer short.", _TRUE),
}
REPLAYED = {
    "Idempotency-Replayed": _header("There, if this is the answer that was given before.", _TRUE)
}


def answer_headers(status: int, further: Headers | None = None) -> Headers:
    """Return the headers of answers with a status, and further ones."""
    return {**_REQUEST_ID, **_RATE_LIMITS, **_OF_STATUSES.get(status, {}), **(further or {})}
