"""Read JSON as Gemini's front end does: protocol buffers' JSON mapping, with its tolerance.

Accepted: either spelling of a field's name, explicit nulls, one object where a list belongs,
enumerations by name in any case or by number, integers written as strings or whole floats.
Refused with the field's path: unknown names, wrong types, bytes that are not base64.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from gemini_simulator.errors import field_violation
from gemini_simulator.media import decode_base64

_Reader = Callable[[Any, str], Any]
_MessageT = TypeVar("_MessageT", bound=msgspec.Struct)
_INT_LIMIT = 2**31
_NON_FIELD = re.compile(r"_([a-z])")


def read_message(kind: type[_MessageT], body: bytes) -> _MessageT:
    """Read a request body.

    Raises:
        ApiError: 400, as the service words it.
    """
    try:
        value = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise field_violation("", f"Invalid JSON payload received. {error}") from error
    if not isinstance(value, dict):
        raise field_violation("", "Invalid JSON payload received. Root element must be a message.")
    message: _MessageT = _struct_reader(kind)(value, "")
    return message


@cache
def _struct_reader(kind: type[msgspec.Struct]) -> _Reader:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    readers = {item.encode_name: (item.name, _reader(item.type)) for item in info.fields}

    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _invalid(path, "message", value)
        values: dict[str, Any] = {}
        for name, given in value.items():
            known = readers.get(_camel(name))
            if known is None:
                at = f" at '{path}'" if path else ""
                raise field_violation(
                    path,
                    f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
                )
            if given is not None:
                values[known[0]] = known[1](given, f"{path}.{known[0]}" if path else known[0])
        return kind(**values)

    return read


def _camel(name: str) -> str:
    return _NON_FIELD.sub(lambda match: match[1].upper(), name)


def _reader(kind: inspect.Type) -> _Reader:
    match kind:
        case inspect.UnionType():
            return _reader(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
        case inspect.ListType():
            return _list_reader(_reader(kind.item_type))
        case inspect.DictType():
            return _map_reader(_reader(kind.value_type))
        case inspect.StructType():
            return _message_reader(kind.cls)
        case inspect.EnumType():
            return _enum_reader(kind.cls)
        case _:
            return _SCALARS.get(type(kind), _read_anything)


def _message_reader(kind: type[msgspec.Struct]) -> _Reader:
    def read(value: Any, path: str) -> Any:
        return _struct_reader(kind)(value, path)  # not before it is needed: Schema contains itself

    return read


def _list_reader(read_item: _Reader) -> _Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            return [read_item(value, path)]
        return [read_item(item, f"{path}[{index}]") for index, item in enumerate(value)]

    return read


def _map_reader(read_item: _Reader) -> _Reader:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _invalid(path, "map", value)
        return {name: read_item(item, f"{path}[{name}].value") for name, item in value.items()}

    return read


def _enum_reader(kind: type[Enum]) -> _Reader:
    by_number = list(kind)

    def read(value: Any, path: str) -> Any:
        try:
            return kind[value.upper()] if isinstance(value, str) else by_number[value]
        except (KeyError, IndexError, TypeError):
            raise _invalid(path, kind.__name__, value) from None

    return read


def _read_anything(value: Any, _path: str) -> Any:
    return value


def _read_string(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        raise _invalid(path, "TYPE_STRING", value)
    return value


def _read_bytes(value: Any, path: str) -> Any:
    if not isinstance(value, str) or decode_base64(value) is None:
        raise _invalid(path, "TYPE_BYTES", "Base64 decoding failed")
    return value


def _read_number(value: Any, path: str) -> Any:
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise _invalid(path, "TYPE_FLOAT", value)


def _read_integer(value: Any, path: str) -> Any:
    number = _read_number(value, path)
    if not (-_INT_LIMIT <= number < _INT_LIMIT and number.is_integer()):
        raise _invalid(path, "TYPE_INT32", value)
    return int(number)


def _read_boolean(value: Any, path: str) -> Any:
    if not isinstance(value, bool):
        raise _invalid(path, "TYPE_BOOL", value)
    return value


def _invalid(path: str, kind: str, value: Any) -> Exception:
    return field_violation(path, f"Invalid value at '{path}' ({kind}), {value!r:.200}")


_SCALARS: dict[type[inspect.Type], _Reader] = {
    inspect.Metadata: _read_bytes,
    inspect.StrType: _read_string,
    inspect.IntType: _read_integer,
    inspect.FloatType: _read_number,
    inspect.BoolType: _read_boolean,
}
