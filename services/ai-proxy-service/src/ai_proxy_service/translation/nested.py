"""Parts of a request that are decoded after the rest, with errors that name the whole path."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError

T = TypeVar("T")


def convert_at(where: str, given: Any, to: type[T]) -> T:
    """Bring a decoded value into a type.

    Args:
        where: the value's path in the request.
        given: the value.
        to: the type.

    Raises:
        InvalidRequestError: it is not of the type; `field` is the path of what is wrong.
    """
    try:
        return msgspec.convert(given, to)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        field = f"{where}{path.rstrip('`')}"
        raise InvalidRequestError(f"Invalid value for '{field}': {text}.", field=field) from None


def google_member(google: Any, extra_body: Mapping[str, Any] | None) -> tuple[str, Any]:
    """Return Google's options and the path where they stand: SDKs nest them differently.

    Raises:
        InvalidRequestError: they stand in both places.
    """
    nested = (extra_body or {}).get("google")
    if nested is None:
        return "google", google
    if google is not None:
        raise InvalidRequestError(
            "Google's options stand both in 'google' and in 'extra_body.google'; one is enough.",
            field="google",
        )
    return "extra_body.google", nested
