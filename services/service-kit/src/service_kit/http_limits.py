"""What one connection may cost: sizes and times beyond which it is refused or closed."""

from dataclasses import dataclass
from http import HTTPStatus

from service_kit.errors import ServiceError

# Longer ones are no use to anybody: the longest path of ours has an id of 128 characters in it.
URL_BYTES_MAX = 8 * 1024
HEADERS_MAX = 128
# Requests that wait behind the one that is being answered. Browsers and SDKs send none ahead.
PIPELINED_MAX = 16


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of a connection.

    Attributes:
        header_bytes: of the request line with all headers, and of a body's trailers.
        header_seconds: from a request's first byte to the end of its headers.
        body_seconds: from there to the end of its body.
        send_seconds: for what was sent to be taken by a client that reads too slowly.
    """

    header_bytes: int = 32 * 1024
    header_seconds: float = 10
    body_seconds: float = 120
    send_seconds: float = 60


class RefusedRequestError(ServiceError):
    """A request that is refused before any app sees it."""

    status = HTTPStatus.BAD_REQUEST
    code = "invalid_http_request"


def invalid_request() -> RefusedRequestError:
    """Return the refusal of what is no HTTP/1.1 (RFC 9112)."""
    return RefusedRequestError("This is not a valid HTTP request.")


def host_missing() -> RefusedRequestError:
    """Return the refusal of a request without one `Host` (RFC 9112, 3.2)."""
    return RefusedRequestError("An HTTP/1.1 request has exactly one Host header.")


def url_too_long() -> RefusedRequestError:
    """Return the refusal of a long URL."""
    return RefusedRequestError(
        f"The URL is longer than {URL_BYTES_MAX} bytes.",
        status=HTTPStatus.REQUEST_URI_TOO_LONG,
        code="url_too_long",
    )


def headers_too_large(limit_bytes: int) -> RefusedRequestError:
    """Return the refusal of headers that are too many or too long (RFC 6585, 5)."""
    return RefusedRequestError(
        f"The headers are more than {limit_bytes} bytes, or more than {HEADERS_MAX}.",
        status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        code="headers_too_large",
    )


def too_many_ahead() -> RefusedRequestError:
    """Return the refusal of requests that are sent without awaiting answers (RFC 9112, 9.3.2)."""
    return RefusedRequestError(
        f"More than {PIPELINED_MAX} requests were sent ahead of their answers.",
        code="too_many_pipelined",
    )


def too_slow(part: str, limit_seconds: float) -> RefusedRequestError:
    """Return the refusal of a request that does not arrive."""
    return RefusedRequestError(
        f"The request's {part} took longer than {limit_seconds:g} seconds to arrive.",
        status=HTTPStatus.REQUEST_TIMEOUT,
        code="request_timeout",
    )
