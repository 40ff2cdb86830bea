"""Gemini's error object, and the errors it is known to send.

Texts and details follow recorded answers of the service. A name here is what `error=` of a
directive takes.
"""

from collections.abc import Callable
from typing import Any

_RPC = "type.googleapis.com/google.rpc."
_DOMAIN = "generativelanguage.googleapis.com"
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """A refusal in Gemini's own form.

    Args:
        code: HTTP status, repeated in the body.
        message: text for people.
        status: canonical name; by default the usual one of the code.
        details: `google.rpc` messages in JSON form.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")
        self.details = details

    def body(self) -> dict[str, Any]:
        """Return the JSON body; `details` is left out when there are none, as on the wire."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


def invalid_argument(message: str) -> ApiError:
    """400 without details."""
    return ApiError(400, message)


def field_violation(field: str, description: str) -> ApiError:
    """400 of the JSON reader, which names the field in a `BadRequest` detail."""
    violation = {"description": description}
    if field:
        violation["field"] = field
    return ApiError(
        400, description, details=[{"@type": f"{_RPC}BadRequest", "fieldViolations": [violation]}]
    )


def missing_key() -> ApiError:
    """403 for a request without any credential."""
    return ApiError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def invalid_key() -> ApiError:
    """400, not 401: so the service answers a key that it does not know."""
    message = "API key not valid. Please pass a valid API key."
    return ApiError(
        400,
        message,
        details=[
            _error_info("API_KEY_INVALID", "googleapis.com", {"service": _DOMAIN}),
            {"@type": f"{_RPC}LocalizedMessage", "locale": "en-US", "message": message},
        ],
    )


def unsupported_credentials() -> ApiError:
    """401 for a bearer token where an API key belongs."""
    return ApiError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential.",
        details=[_error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", "googleapis.com", {})],
    )


def unknown_model(model: str, version: str, method: str) -> ApiError:
    """404 for a model that does not exist or does not offer the method."""
    return ApiError(
        404,
        f"models/{model} is not found for API version {version}, or is not supported for {method}."
        " Call ListModels to see the list of available models and their supported methods.",
    )


def token_limit(count: int, limit: int) -> ApiError:
    """400 for a prompt longer than the model's input limit."""
    return invalid_argument(
        f"The input token count ({count}) exceeds the maximum number of tokens allowed ({limit})."
    )


def _error_info(reason: str, domain: str, metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "@type": f"{_RPC}ErrorInfo",
        "reason": reason,
        "domain": domain,
        "metadata": metadata,
    }


def _quota(model: str, metric: str, quota_id: str, limit: int, delay_seconds: float) -> ApiError:
    full_metric = f"{_DOMAIN}/{metric}"
    message = (
        "You exceeded your current quota, please check your plan and billing details. "
        f"\n* Quota exceeded for metric: {full_metric}, limit: {limit}, model: {model}"
        f"\nPlease retry in {delay_seconds}s."
    )
    help_link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    violation = {
        "quotaMetric": full_metric,
        "quotaId": quota_id,
        "quotaDimensions": {"model": model, "location": "global"},
        "quotaValue": str(limit),
    }
    return ApiError(
        429,
        message,
        details=[
            {"@type": f"{_RPC}Help", "links": [help_link]},
            {"@type": f"{_RPC}QuotaFailure", "violations": [violation]},
            {"@type": f"{_RPC}RetryInfo", "retryDelay": f"{delay_seconds:g}s"},
        ],
    )


def _quota_minute(model: str, delay_seconds: float) -> ApiError:
    return _quota(
        model,
        "generate_content_paid_tier_input_token_count",
        "GenerateContentPaidTierInputTokensPerModelPerMinute",
        1_000_000,
        delay_seconds,
    )


def _quota_day(model: str, delay_seconds: float) -> ApiError:
    return _quota(
        model,
        "generate_content_free_tier_requests",
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        250,
        delay_seconds,
    )


def _plain(code: int, message: str, status: str | None = None) -> Callable[[str, float], ApiError]:
    return lambda _model, _delay_seconds: ApiError(code, message, status=status)


NAMED_ERRORS: dict[str, Callable[[str, float], ApiError]] = {
    "invalid_argument": _plain(400, "Request contains an invalid argument."),
    "invalid_key": lambda _model, _delay_seconds: invalid_key(),
    "token_limit": lambda _model, _delay_seconds: token_limit(1_200_000, 1_048_576),
    "location": _plain(
        400, "User location is not supported for the API use.", "FAILED_PRECONDITION"
    ),
    "unauthenticated": lambda _model, _delay_seconds: unsupported_credentials(),
    "prepaid_exhausted": _plain(402, "The prepaid credit of this project is used up."),
    "permission_denied": _plain(403, "The caller does not have permission"),
    "leaked_key": _plain(403, "Your API key was reported as leaked. Please use another API key."),
    "not_found": lambda model, _delay_seconds: unknown_model(model, "v1beta", "generateContent"),
    "quota_minute": _quota_minute,
    "quota_day": _quota_day,
    "quota_bare": _plain(429, "Resource has been exhausted (e.g. check quota)."),
    "cancelled": _plain(499, "The operation was cancelled."),
    "internal": _plain(500, "An internal error has occurred. Please retry."),
    "overloaded": _plain(503, "The model is overloaded. Please try again later."),
    "high_demand": _plain(
        503,
        "This model is currently experiencing high demand. Spikes in demand are usually temporary. "
        "Please try again later.",
    ),
    "deadline": _plain(503, "Deadline expired before operation could complete."),
    "timeout": _plain(504, "The request timed out. Please try again.", "DEADLINE_EXCEEDED"),
}
_DEFAULT_NAMES = {
    400: "invalid_argument",
    401: "unauthenticated",
    402: "prepaid_exhausted",
    403: "permission_denied",
    404: "not_found",
    429: "quota_minute",
    499: "cancelled",
    500: "internal",
    503: "overloaded",
    504: "timeout",
}


def make_error(
    *,
    name: str | None,
    code: int | None,
    message: str | None,
    model: str,
    retry_delay_seconds: float,
) -> ApiError:
    """Build an error on demand: by name, by HTTP status, or both.

    Args:
        name: key of `NAMED_ERRORS`; by default the usual error of the status.
        code: HTTP status; by default that of the name.
        message: replaces the usual text.
        model: named in quota errors.
        retry_delay_seconds: what `RetryInfo` and the text ask for.
    """
    chosen = name or _DEFAULT_NAMES.get(code or 0)
    if chosen is None:
        error = ApiError(code or 500, "The simulator was told to fail.")
    else:
        error = NAMED_ERRORS[chosen](model, retry_delay_seconds)
    if code is not None:
        error.code = code
    if message is not None:
        error.message = message
    return error
