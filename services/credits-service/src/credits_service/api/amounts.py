"""How amounts in bodies are read: exactly as they were written, or not at all."""

from decimal import Decimal

import msgspec

from credits_service.api.problems import invalid
from credits_service.api.requests import decode
from credits_service.core.money import AmountError, decimal_from, nanos_from_usd

_STARTS = b'"-0123456789'
_text_decoder = msgspec.json.Decoder(str)


def amount_nanos(field: str, amount: msgspec.Raw) -> int:
    """Read an amount in USD as nano-USD.

    Raises:
        ServiceError: 422, if it is no acceptable amount; 400, if its bytes are no text.
    """
    return _nanos(field, _decimal(field, amount))


def optional_nanos(field: str, amount: msgspec.Raw | msgspec.UnsetType) -> int | None:
    """Read an amount in USD that may be missing, as nano-USD.

    Raises:
        ServiceError: 422, if it is no acceptable amount; 400, if its bytes are no text.
    """
    given = _given(amount)
    return None if given is None else amount_nanos(field, given)


def optional_progress_nanos(field: str, amount: msgspec.Raw | msgspec.UnsetType) -> int | None:
    """Read what has been used so far, which may be nothing, as nano-USD.

    Raises:
        ServiceError: 422, if it is no acceptable amount; 400, if its bytes are no text.
    """
    given = _given(amount)
    if given is None:
        return None
    used = _decimal(field, given)
    return _nanos(field, used) if used else 0


def _given(amount: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | None:
    if isinstance(amount, msgspec.UnsetType) or bytes(amount) == b"null":
        return None
    return amount


def _nanos(field: str, amount: Decimal) -> int:
    try:
        return nanos_from_usd(amount)
    except AmountError as error:
        raise invalid(field, str(error), code="invalid_amount") from None


def _decimal(field: str, amount: msgspec.Raw) -> Decimal:
    written = bytes(amount)
    if written[:1] not in _STARTS:
        raise invalid(field, "must be a string or a number", code="invalid_type")
    text = decode(amount, _text_decoder) if written[:1] == b'"' else written.decode()
    try:
        return decimal_from(text)
    except AmountError as error:
        raise invalid(field, str(error), code="invalid_amount") from None
