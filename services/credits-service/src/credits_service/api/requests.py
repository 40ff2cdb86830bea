"""How requests are read: bodies, amounts, headers, page parameters; errors name the field."""

import re
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from credits_service.api.problems import invalid
from credits_service.core.money import AmountError, nanos_from_usd
from service_kit.body import InvalidBodyError, read_json
from service_kit.errors import ServiceError

T = TypeVar("T")

MAX_DOCUMENT_BYTES = 16 * 1024
MAX_PAGE = 500
_DEFAULT_PAGE = 50
_KEY_HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


async def read(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Read and check a JSON body.

    Raises:
        ServiceError: 400 for what is no JSON, 422 for a field that is wrong.
    """
    try:
        return await read_json(request, decoder)
    except InvalidBodyError as error:
        if error.code != "invalid_json":
            error.status = 422
        raise


def amount_nanos(field: str, amount: Decimal) -> int:
    """Convert an amount in USD.

    Raises:
        ServiceError: 422, if it is no acceptable amount.
    """
    try:
        return nanos_from_usd(amount)
    except AmountError as error:
        raise invalid(field, str(error), code="invalid_amount") from None


def optional_nanos(field: str, amount: Decimal | None) -> int | None:
    """Convert an amount in USD that may be missing.

    Raises:
        ServiceError: 422, if it is no acceptable amount.
    """
    return None if amount is None else amount_nanos(field, amount)


def optional_progress_nanos(field: str, amount: Decimal | None) -> int | None:
    """Convert what has been used so far, which may be nothing.

    Raises:
        ServiceError: 422, if it is no acceptable amount.
    """
    if amount is not None and amount.is_finite() and not amount:
        return 0
    return optional_nanos(field, amount)


def document(field: str, value: dict[str, Any] | None) -> str | None:
    """Write a free-form object as the JSON text that is stored.

    Raises:
        ServiceError: 422, if it is too large.
    """
    if value is None:
        return None
    text = msgspec.json.encode(value)
    if len(text) > MAX_DOCUMENT_BYTES:
        raise invalid(field, f"must be at most {MAX_DOCUMENT_BYTES} bytes of JSON")
    return text.decode()


def idempotency_key(request: Request, *, required: bool) -> str | None:
    """Return the request's idempotency key.

    Raises:
        ServiceError: it is required and missing, or no key.
    """
    key = request.headers.get(_KEY_HEADER)
    if key is None:
        if required:
            raise ServiceError(
                f"{_KEY_HEADER} is required here: it makes a retry safe.",
                status=400,
                code="idempotency_key_required",
                field=_KEY_HEADER,
            )
        return None
    if not _KEY.fullmatch(key):
        raise invalid(_KEY_HEADER, "must have 1 to 255 visible ASCII characters")
    return key


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
