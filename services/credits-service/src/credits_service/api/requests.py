"""How requests are read: bodies, headers, moments, page parameters; errors name the field."""

import re
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from credits_service.api.problems import invalid
from credits_service.core.moments import MAX_MICROS, MIN_MICROS, micros_from_datetime
from credits_service.ledger.idempotency import KEY_HEADER
from service_kit.body import InvalidBodyError, decode_body
from service_kit.errors import ServiceError

T = TypeVar("T")

MAX_DOCUMENT_BYTES = 16 * 1024
MAX_DOCUMENT_DEPTH = 32
MAX_PAGE = 500
_DEFAULT_PAGE = 50
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


async def read(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Read and check a JSON body.

    Raises:
        ServiceError: 400 for what is no JSON, 422 for a field that is wrong.
    """
    return decode(await request.body(), decoder)


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Check a JSON body.

    Raises:
        ServiceError: 400 for what is no JSON, 422 for a field that is wrong.
    """
    try:
        return decode_body(body, decoder)
    except InvalidBodyError as error:
        if error.code != "invalid_json":
            error.status = 422
        raise


def _is_flat_enough(value: dict[str, Any]) -> bool:
    """Whether readers of the journal can decode it, whatever stack they stand on."""
    level: list[Any] = [value]
    for _depth in range(MAX_DOCUMENT_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False


def document(field: str, value: dict[str, Any] | None) -> str | None:
    """Write a free-form object as the JSON text that is stored.

    Raises:
        ServiceError: 422, if it is too large or nested too deep.
    """
    if value is None:
        return None
    if not _is_flat_enough(value):
        raise invalid(field, f"must be nested at most {MAX_DOCUMENT_DEPTH} levels deep")
    text = msgspec.json.encode(value)
    if len(text) > MAX_DOCUMENT_BYTES:
        raise invalid(field, f"must be at most {MAX_DOCUMENT_BYTES} bytes of JSON")
    return text.decode()


def idempotency_key(request: Request, *, required: bool) -> str | None:
    """Return the request's idempotency key.

    Raises:
        ServiceError: it is required and missing, or no key.
    """
    return checked_key(request.headers.get(KEY_HEADER), KEY_HEADER, required=required)


def checked_key(key: str | None, field: str, *, required: bool) -> str | None:
    """Return an idempotency key that was given in a field or header.

    Raises:
        ServiceError: it is required and missing, or no key.
    """
    if key is None:
        if required:
            raise ServiceError(
                f"{field} is required here: it makes a retry safe.",
                status=400,
                code="idempotency_key_required",
                field=field,
            )
        return None
    if not _KEY.fullmatch(key):
        raise invalid(field, "must have 1 to 255 visible ASCII characters")
    return key


def optional_moment(field: str, text: str | None, *, in_query: bool = False) -> int | None:
    """Read a moment, as microseconds since 1970, that may be missing.

    Args:
        field: its name.
        text: RFC 3339.
        in_query: whether a plus sign that was not encoded has become a space.

    Raises:
        ServiceError: 422, if it is none.
    """
    if text is None:
        return None
    if in_query:
        text = text.replace(" ", "+")
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise invalid(field, "must be an RFC 3339 moment with its time zone")
    micros = micros_from_datetime(moment)
    if micros > MAX_MICROS:
        raise invalid(field, "must be before the year 10000")
    if micros < MIN_MICROS:
        raise invalid(field, "must be after the year 0")
    return micros


def is_user_id(text: str) -> bool:
    """Whether an account can have this id."""
    return _USER_ID.fullmatch(text) is not None


def page_limit(request: Request) -> int:
    """Return the page size that is asked for.

    Raises:
        ServiceError: 422, if it is no acceptable size.
    """
    text = request.query_params.get("limit", str(_DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_PAGE:
        raise invalid("limit", f"must be a number from 1 to {MAX_PAGE}")
    return int(text)
