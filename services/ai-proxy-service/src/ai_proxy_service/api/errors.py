"""Errors in the form that OpenAI's clients read: an `error` object with all four members.

https://platform.openai.com/docs/guides/error-codes, and the `Error` schema of OpenAI's API
description.
"""

from http import HTTPStatus

import msgspec

from service_kit.errors import ServiceError

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
# Routing has no code of its own in OpenAI's answers.
_CODES_NOT_SHOWN = frozenset({"not_found", "http_error"})


class OpenAIErrorForm:
    """The proxy's error form."""

    content_type = "application/json"

    def render(self, error: ServiceError, request_id: str) -> bytes:
        """Return the body of an error response."""
        return error_body(error, request_id)


def error_body(error: ServiceError, request_id: str) -> bytes:
    """Encode an error; failures of the server's own name the request, so that it can be found."""
    message = error.message
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and request_id:
        message = f"{message} (request id: {request_id})"
    code = None if error.code in _CODES_NOT_SHOWN else error.code
    return msgspec.json.encode(
        {
            "error": {
                "message": message,
                "type": _type(error),
                "param": error.field,
                "code": code,
            }
        }
    )


def _type(error: ServiceError) -> str:
    if error.code == "insufficient_quota":
        return "insufficient_quota"
    if error.status in _TYPES:
        return _TYPES[error.status]
    return (
        "server_error"
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        else ("invalid_request_error")
    )


def error_event(error: ServiceError, request_id: str) -> bytes:
    """Return an error as an event of a stream whose status has been sent already."""
    return b"data: " + error_body(error, request_id) + b"\n\n"
