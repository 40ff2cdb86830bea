"""Gemini's errors as what an OpenAI client may see and should act on.

Trouble with our own key or quota never looks like trouble with the client's: a 401 would
make it throw its key away.
"""

import math
import re
from http import HTTPStatus

from ai_proxy_service.core.errors import InvalidRequestError, UpstreamError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.gemini_trouble import is_daily_quota, is_invalid_key, retry_seconds
from service_kit.errors import ServiceError

_TOO_LONG = re.compile(r"token count.*exceeds the maximum", re.IGNORECASE | re.DOTALL)
_TOO_LONG_LIMIT = re.compile(r"maximum number of tokens allowed \(?(\d+)\)?", re.IGNORECASE)
_CACHE = re.compile(r"cached_?content", re.IGNORECASE)
_FILE = re.compile(r"\bfiles?\b", re.IGNORECASE)
# OpenAI's SDKs ignore or distrust a longer wait than this.
RETRY_SECONDS_MAX = 60
OVERLOAD_RETRY_SECONDS = 3
# What a refusal is about, by words of Gemini's text: the parameter, and what may be said of it.
# The text itself stays here: it may quote anything.
_ABOUT: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(words, re.IGNORECASE | re.DOTALL), param, text)
    for words, param, text in (
        (r"logprobs", "logprobs", "The model gives no log probabilities."),
        (r"multiple candidates|candidate_?count", "n", "The model gives one answer at a time."),
        (
            r"thought.?signature",
            "messages",
            "The model provider refused the thought signatures in the messages.",
        ),
        (r"thinking|thought", "reasoning_effort", "The model can't think as asked."),
        (
            r"function call(ing|s)?.*mime type",
            "response_format",
            "The model can't combine functions with a JSON answer.",
        ),
        (
            r"tool use with function|built-in tools",
            "tools",
            "The model can't combine functions with Google's own tools.",
        ),
        (r"function_?declarations?", "tools", "The model provider refused the tools."),
        (
            r"function (call|response)|multiturn|\brole\b|contents",
            "messages",
            "The model provider refused the order or the content of the messages.",
        ),
        (
            r"schema",
            "response_format",
            "The model provider refused the JSON schema: it may be too large or too deep.",
        ),
        (
            r"modalit",
            "modalities",
            "The model can't answer in this modality.",
        ),
        (r"max_?output_?tokens", "max_completion_tokens", "The output limit is out of range."),
        (r"temperature", "temperature", "The temperature is out of range."),
        (r"stop_?sequences", "stop", "The stop sequences are not accepted."),
        (r"tools?\b", "tools", "The model provider refused the tools."),
        (
            r"image|video|audio|inline_?data|mime_?type|file",
            "messages",
            "The model provider can't read an image or file in the messages.",
        ),
    )
)


def to_service_error(error: GeminiError) -> ServiceError:
    """Return the error for the client."""
    status = error.status
    if status == HTTPStatus.BAD_REQUEST:
        return _bad_request(error)
    if status == HTTPStatus.FORBIDDEN and _CACHE.search(error.message):
        return InvalidRequestError(
            "The cached content does not exist, or may not be used.", field="google.cached_content"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _wrong_key()
    if status == HTTPStatus.NOT_FOUND:
        return _not_found(error)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _rate_limited(error)
    return _SERVER_ERRORS.get(status, _failed)()


def _wrong_key() -> ServiceError:
    return UpstreamError(
        "The gateway could not authenticate with the model provider.", code="upstream_auth_error"
    )


def _not_found(error: GeminiError) -> ServiceError:
    if _FILE.search(error.message):
        return InvalidRequestError(
            "A file that the messages name does not exist.", field="messages"
        )
    return InvalidRequestError(
        "The model does not exist or is not available.", code="model_not_found", field="model"
    )


def _bad_request(error: GeminiError) -> ServiceError:
    if is_invalid_key(error):
        return _wrong_key()
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
    told = f"{error.message}\n{error.detail('BadRequest').get('fieldViolations', '')}"
    for words, param, text in _ABOUT:
        if words.search(told):
            return InvalidRequestError(text, code="invalid_value", field=param)
    return InvalidRequestError(
        "The model provider refused the request as invalid.", code="invalid_value"
    )


def _rate_limited(error: GeminiError) -> ServiceError:
    if is_daily_quota(error):
        return ServiceError(
            "The gateway's daily quota with the model provider is used up.",
            status=429,
            code="insufficient_quota",
            headers={"x-should-retry": "false"},
        )
    seconds = retry_seconds(error)
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
