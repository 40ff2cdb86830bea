"""What pages have in common: query parameters, cursors, and paths with an account's id."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from credits_service.api.openapi import query_parameter
from credits_service.api.problems import account_unknown, invalid
from credits_service.api.requests import MAX_PAGE, is_user_id
from service_kit.errors import ServiceError

T = TypeVar("T")

LIMIT = query_parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}, "Page size."
)
CURSOR = query_parameter("cursor", {"type": "string"}, "`next_cursor` of the page before.")
_MOMENT: dict[str, Any] = {"type": "string", "format": "date-time"}


def moment_parameter(name: str, description: str) -> dict[str, Any]:
    """Describe a query parameter that is a moment."""
    return query_parameter(name, _MOMENT, description)


def bad_cursor() -> ServiceError:
    """Return the problem of a cursor that no page gave."""
    return invalid("cursor", "must be the next_cursor of a page")


def to_cursor(value: object) -> str:
    """Write where the next page begins."""
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()


def from_cursor(cursor: str, expected: type[T]) -> T:
    """Read where a page begins.

    Raises:
        ServiceError: 422, no page gave this.
    """
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=expected)
    except (binascii.Error, UnicodeError, msgspec.DecodeError):
        raise bad_cursor() from None


def account_id(user_id: str) -> str:
    """Return the path's account id; what is none can't be asked of the database.

    Raises:
        ServiceError: 404.
    """
    if not is_user_id(user_id):
        raise account_unknown(user_id)
    return user_id


def is_part_of_id(request: Request, name: str) -> bool:
    """Whether the last part of the path was written as part of the id before it.

    An account may be called ``team/holds``: its own path is ``/accounts/team%2Fholds``.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return not raw.partition(b"?")[0].endswith(b"/" + name.encode())
