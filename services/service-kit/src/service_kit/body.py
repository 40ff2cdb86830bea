"""Read and decode request bodies: bounded, strict, and with errors that name the field."""

import re
from typing import TypeVar

import msgspec

from service_kit.errors import ServiceError

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]+)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)


class InvalidBodyError(ServiceError):
    """The body, or one field of it, is wrong.

    The service's error form decides the status; 400 is the kit's default.
    """

    status = 400
    code = "invalid_value"


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body into the decoder's type.

    Raises:
        InvalidBodyError: malformed JSON, a missing field, or a value of the wrong type or
            range; `field` is the path of what is wrong.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidBodyError(
            "We could not parse the JSON body of your request.", code="invalid_json"
        ) from None


def invalid_field(message: str) -> InvalidBodyError:
    """Turn a msgspec validation message into an error that names the field."""
    match = _AT.match(message)
    what = match["what"] if match else message
    path = (match["path"] or "") if match else ""
    if missing := _MISSING.match(what):
        field = f"{path}.{missing['name']}".lstrip(".")
        return InvalidBodyError(
            f"Missing required parameter: '{field}'.",
            code="missing_required_parameter",
            field=field,
        )
    if unknown := _UNKNOWN.match(what):
        field = f"{path}.{unknown['name']}".lstrip(".")
        return InvalidBodyError(
            f"Unknown parameter: '{field}'.", code="unknown_parameter", field=field
        )
    field = path.lstrip(".")
    code = "invalid_type" if ", got `" in what else "invalid_value"
    shown = f"Invalid value for '{field}': {what}." if field else f"Invalid request: {what}."
    return InvalidBodyError(shown, code=code, field=field or None)
