"""JSON Schema as the retired SDK's message type `Schema` can hold it.

That type knows one type a schema, properties, items, string enumerations, and little else; and
Gemini refuses in it what it takes in a JSON Schema. What can't be said becomes the loosest
schema that can, with the lost keywords written into the description, where the model reads them.
https://ai.google.dev/api/caching#Schema
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError

Schema = Mapping[str, Any]
# The SDK's reader of JSON follows 100 messages into each other, and a schema takes up to three.
DEPTH_MAX = 30
# A few references that double at each step would grow without end.
NODES_MAX = 10_000
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_FORMATS = {
    "string": frozenset({"date-time"}),
    "integer": frozenset({"int32", "int64"}),
    "number": frozenset({"float", "double"}),
}
# What shows the type of a schema that doesn't name it.
_SIGNS = {
    "object": ("properties", "required", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
# Keywords without a place of their own that still help the model.
_TOLD = (
    *("pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "multipleOf", "uniqueItems", "default"),
)
_LIMIT = 2**31


def to_sdk_schema(schema: Any, field: str) -> dict[str, Any]:
    """Convert a JSON Schema, or Gemini's own subset of OpenAPI, to the JSON form of the message.

    Args:
        schema: what the client sent; what is no schema at all allows everything.
        field: the OpenAI parameter that it came in, for errors.

    Raises:
        InvalidRequestError: it nests too deep, or grows too large when references are followed.
    """
    return _Converter(schema, field).convert(schema, 0, frozenset())


class _Converter:
    def __init__(self, root: Any, field: str) -> None:
        self._root = root
        self._field = field
        self._nodes = 0

    def convert(self, given: Any, depth: int, followed: frozenset[str]) -> dict[str, Any]:
        """Convert one schema; `followed` are the references that led to it."""
        schema, followed = self._resolve(given, depth, followed)
        schema, followed = self._choose(schema, depth, followed)
        kinds = _kinds(schema)
        kind = _preferred(kinds)
        told = {name: schema[name] for name in _TOLD if name in schema}
        if len([known for known in kinds if known in _TYPES]) > 1:
            told["type"] = kinds
        converted: dict[str, Any] = {"type": kind.upper(), **_allowed(schema, kind, told)}
        if "null" in kinds or None in _values(schema) or schema.get("nullable") is True:
            converted["nullable"] = True
        if kind == "array":
            converted |= self._array(schema, depth, followed)
        elif kind == "object":
            converted |= self._object(schema, depth, followed)
        description = _description(schema, told)
        return converted | ({"description": description} if description else {})

    def _resolve(
        self, given: Any, depth: int, followed: frozenset[str]
    ) -> tuple[Schema, frozenset[str]]:
        """Follow references and join `allOf` until a plain schema is left."""
        self._count(depth)
        schema: Schema = given if isinstance(given, Mapping) else {}
        while "$ref" in schema:
            reference = str(schema["$ref"])
            beside = _without(schema, "$ref")
            if reference in followed:
                return {"type": "object", **beside}, followed
            followed |= {reference}
            schema = {**self._target(reference), **beside}
        for part in _listed(schema, "allOf"):
            resolved, followed = self._resolve(part, depth + 1, followed)
            schema = _both(_without(schema, "allOf"), resolved)
        return schema, followed

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            how = "nests too deep" if depth > DEPTH_MAX else "is too large"
            raise InvalidRequestError(f"The schema {how}.", field=self._field)

    def _target(self, reference: str) -> Schema:
        """Return what a reference within the schema names; any other allows everything."""
        target = self._root if reference.startswith("#") else None
        for step in unquote(reference).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        return target if isinstance(target, Mapping) else {}

    def _choose(
        self, schema: Schema, depth: int, followed: frozenset[str]
    ) -> tuple[Schema, frozenset[str]]:
        """Make one schema of alternatives: those of one type are joined, the others only told."""
        options = [*self._options(schema, depth, followed)]
        if not options:
            return schema, followed
        base = dict(_without(schema, "anyOf", "oneOf"))
        kinds = list(dict.fromkeys(kind for option, _ in options for kind in _kinds(option)))
        kind = _preferred(kinds)
        chosen = [option for option, _ in options if kind in (_kinds(option) or [kind])]
        if any(option.get("nullable") is True for option, _ in options):
            kinds.append("null")
        if not _kinds(base) and kinds:
            base["type"] = kinds
        elif "null" in kinds:
            base["nullable"] = True
        followed = followed.union(*(further for _, further in options))
        return _both(base, _any_of(chosen)), followed

    def _options(
        self, schema: Schema, depth: int, followed: frozenset[str]
    ) -> Iterator[tuple[Schema, frozenset[str]]]:
        for option in _listed(schema, "anyOf") or _listed(schema, "oneOf"):
            resolved, further = self._resolve(option, depth + 1, followed)
            inner = [*self._options(resolved, depth + 1, further)]
            yield from inner or [(resolved, further)]

    def _array(self, schema: Schema, depth: int, followed: frozenset[str]) -> dict[str, Any]:
        items = schema.get("items")
        first = _listed(schema, "prefixItems") or _listed(schema, "items")
        if first:
            items = {"anyOf": [*first, *([items] if isinstance(items, Mapping) else [])]}
        # Gemini refuses an array without items.
        converted: dict[str, Any] = {"items": self.convert(items, depth + 1, followed)}
        for name in ("minItems", "maxItems"):
            limit = schema.get(name)
            if isinstance(limit, int) and 0 <= limit < _LIMIT:
                converted[name] = int(limit)
        return converted

    def _object(self, schema: Schema, depth: int, followed: frozenset[str]) -> dict[str, Any]:
        properties = _properties(schema)
        if not properties:
            return {}
        converted: dict[str, Any] = {
            name: self.convert(value, depth + 1, followed) for name, value in properties.items()
        }
        # Gemini refuses names that are no properties.
        required = [name for name in _required(schema) if name in properties]
        return {"properties": converted} | ({"required": required} if required else {})


def _kinds(schema: Schema) -> list[str]:
    """Return the types that a schema names or shows, in its order; none for any."""
    named = schema.get("type")
    if isinstance(named, str):
        return [named.lower()]
    if isinstance(named, list):
        return list(dict.fromkeys(str(kind).lower() for kind in named))
    values = _values(schema)
    if values:
        return list(dict.fromkeys(_kind_of(value) for value in values))
    return [kind for kind, signs in _SIGNS.items() if any(sign in schema for sign in signs)][:1]


def _kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else kinds.get(type(value), "object")


def _preferred(kinds: Sequence[str]) -> str:
    """Return the type that says most of what several allow: numbers, or else texts."""
    known = [kind for kind in kinds if kind in _TYPES]
    if known and {*known} <= {"integer", "number"}:
        return "number" if "number" in known else "integer"
    return "string" if "string" in known or not known else known[0]


def _values(schema: Schema) -> list[Any]:
    """Return the only values that a schema allows; none where it doesn't list them."""
    if "const" in schema:
        return [schema["const"]]
    return _listed(schema, "enum")


def _allowed(schema: Schema, kind: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return the enumeration or format of a schema; `told` gets what has to be described."""
    values = [value for value in _values(schema) if value is not None]
    # Gemini refuses empty strings here, and any enumeration of another type.
    if kind == "string" and values and all(value and isinstance(value, str) for value in values):
        return {"format": "enum", "enum": list(dict.fromkeys(values))}
    if values:
        told["enum"] = values
    wanted = schema.get("format")
    if not isinstance(wanted, str):
        return {}
    if wanted in _FORMATS.get(kind, ()):
        return {"format": wanted}
    told["format"] = wanted
    return {}


def _both(one: Schema, other: Schema) -> Schema:
    """Join schemas that hold together; where they differ the first one wins."""
    joined = {**other, **one}
    properties = {**_properties(other), **_properties(one)}
    if properties:
        joined["properties"] = properties
    required = dict.fromkeys([*_required(one), *_required(other)])
    if required:
        joined["required"] = list(required)
    return joined


def _any_of(options: Sequence[Schema]) -> Schema:
    """Join alternatives of one type into the schema that allows what any of them does."""
    if len(options) < 2:  # noqa: PLR2004 - there is nothing to join
        return options[0] if options else {}
    shared = {
        name: value
        for name, value in options[0].items()
        if name not in {"const", "enum"} and all(option.get(name) == value for option in options)
    }
    joined = {**shared, "type": options[0].get("type", _kinds(options[0]))}
    values = [_values(option) for option in options]
    if all(values):
        joined["enum"] = functools.reduce(_with_new, values)
    names = dict.fromkeys(name for option in options for name in _properties(option))
    if names:
        joined["properties"] = {
            name: _one_of(_properties(option).get(name) for option in options) for name in names
        }
        required = [name for name in names if all(name in _required(o) for o in options)]
        joined["required"] = required
    if any("items" in option for option in options):
        joined["items"] = _one_of(option.get("items") for option in options)
    told = _with_new([], [text for o in options if isinstance(text := o.get("description"), str)])
    return joined | ({"description": " | ".join(told)} if told else {})


def _one_of(schemas: Iterator[Any]) -> Any:
    different = _with_new([], [schema for schema in schemas if schema is not None])
    return different[0] if len(different) == 1 else {"anyOf": different}


def _with_new(known: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    """Return the first list and what the second adds; members need not be hashable."""
    joined = list(known)
    for value in more:
        if value not in joined:
            joined.append(value)
    return joined


def _description(schema: Schema, told: Mapping[str, Any]) -> str:
    given = schema.get("description")
    lines = [given] if isinstance(given, str) and given else []
    if told:
        lines.append(f"JSON Schema: {msgspec.json.encode(told).decode()}")
    return "\n".join(lines)


def _without(schema: Schema, *names: str) -> Schema:
    return {name: value for name, value in schema.items() if name not in names}


def _listed(schema: Schema, name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _properties(schema: Schema) -> Mapping[str, Any]:
    value = schema.get("properties")
    return value if isinstance(value, Mapping) else {}


def _required(schema: Schema) -> list[str]:
    return [name for name in _listed(schema, "required") if isinstance(name, str)]
