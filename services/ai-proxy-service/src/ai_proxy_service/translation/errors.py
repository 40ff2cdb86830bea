"""Gemini's errors as what an OpenAI client may see and should act on.

Trouble with our own key or quota never looks like trouble with the client's: a 401 would
make it throw its key away.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from ai_proxy_service.core.errors import InvalidRequestError, UpstreamError
from ai_proxy_service.core.gemini import GeminiError
from service_kit.errors import ServiceError

_RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?)s", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_TOO_LONG = re.compile(r"token count.*exceeds the maximum", re.IGNORECASE | re.DOTALL)
_TOO_LONG_LIMIT = re.compile(r"maximum number of tokens allowed \(?(\d+)\)?", re.IGNORECASE)
# OpenAI's SDKs ignore or distrust a longer wait than this.
RETRY_SECONDS_MAX = 60
OVERLOAD_RETRY_SECONDS = 3


def to_service_error(error: GeminiError) -> ServiceError:
    """Return the error for the client."""
    status = error.status
    if status == 400:  # noqa: PLR2004 - HTTP
        return _bad_request(error)
    if status in {401, 403}:
        return UpstreamError(
            "The gateway could not authenticate with the model provider.",
            code="upstream_auth_error",
        )
    if status == 404:  # noqa: PLR2004 - HTTP
        return InvalidRequestError(
            "The model does not exist or is not available.", code="model_not_found", field="model"
        )
    if status == 429:  # noqa: PLR2004 - HTTP
        return _rate_limited(error)
    return _SERVER_ERRORS.get(status, _failed)()


def _bad_request(error: GeminiError) -> ServiceError:
    if error.detail("ErrorInfo").get("reason") == "API_KEY_INVALID":
        return UpstreamError(
            "The gateway could not authenticate with the model provider.",
            code="upstream_auth_error",
        )
    if error.reason == "FAILED_PRECONDITION":
        return UpstreamError(
            "The model provider refused the gateway's request.",
            headers={"x-should-retry": "false"},
        )
    if _TOO_LONG.search(error.message):
        limit = _TOO_LONG_LIMIT.search(error.message)
        shown = f"This model's maximum context length is {limit[1]} tokens." if limit else ""
        return InvalidRequestError(
            f"{shown} Your messages are longer than the maximum context length.".strip(),
            code="context_length_exceeded",
            field="messages",
        )
    return InvalidRequestError(
        "The model provider refused the request as invalid.", code="invalid_value"
    )


def _rate_limited(error: GeminiError) -> ServiceError:
    if _is_daily(error.detail("QuotaFailure")):
        return ServiceError(
            "The gateway's daily quota with the model provider is used up.",
            status=429,
            code="insufficient_quota",
            headers={"x-should-retry": "false"},
        )
    seconds = _retry_seconds(error)
    headers: dict[str, str] = {}
    if seconds is not None and seconds <= RETRY_SECONDS_MAX:
        headers = {
            "retry-after": str(math.ceil(seconds)),
            "retry-after-ms": str(math.ceil(seconds * 1000)),
        }
    elif seconds is not None:
        headers = {"x-should-retry": "false"}
    return ServiceError(
        "The model provider's rate limit is reached. Please try again later.",
        status=429,
        code="rate_limit_exceeded",
        headers=headers,
    )


def _is_daily(quota: Mapping[str, Any]) -> bool:
    violations = quota.get("violations")
    return isinstance(violations, list) and any(
        "PerDay" in str(violation.get("quotaId", ""))
        for violation in violations
        if isinstance(violation, dict)
    )


def _retry_seconds(error: GeminiError) -> float | None:
    delay = _DURATION.fullmatch(str(error.detail("RetryInfo").get("retryDelay", "")))
    found = delay or _RETRY_IN.search(error.message)
    return float(found[1]) if found else None


def _failed() -> ServiceError:
    return UpstreamError("The model provider failed. Please try again.")


_SERVER_ERRORS = {
    402: lambda: ServiceError(
        "The model is temporarily not available.",
        status=503,
        code="server_is_overloaded",
        headers={"x-should-retry": "false"},
    ),
    500: lambda: ServiceError("The model provider failed. Please try again.", status=500),
    503: lambda: ServiceError(
        "The model is overloaded. Please try again shortly.",
        status=503,
        code="server_is_overloaded",
        headers={"retry-after": str(OVERLOAD_RETRY_SECONDS)},
    ),
    504: lambda: ServiceError(
        "The model did not answer in time.", status=504, code="upstream_timeout"
    ),
}
