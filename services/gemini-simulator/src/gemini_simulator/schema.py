"""Make a value that conforms to a JSON Schema or to Gemini's OpenAPI subset of it.

Deterministic: the same schema gives the same value. Not honoured: `pattern`, `not` and
conditional keywords, which no generator can follow in general.
"""

from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 12
_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}


def example(schema: Any, name: str = "value") -> Any:
    """Return a value that the schema allows.

    Args:
        schema: JSON Schema; anything but an object allows everything.
        name: what free strings are made of, usually the property's name.
    """
    return _Example(schema).value(schema, name, 0)


class _Example:
    def __init__(self, root: Any) -> None:
        self._root = root

    def value(self, given: Any, name: str, depth: int) -> Any:
        schema = self._resolved(given)
        for keyword in ("const", "example"):
            if schema.get(keyword) is not None:
                return schema[keyword]
        if schema.get("enum"):
            return schema["enum"][0]
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices:
            return self.value(self._first_usable(choices, depth), name, depth)
        return self._of_kind(_kind(schema), schema, name, depth)

    def _of_kind(self, kind: str, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean" | "null":
                return True if kind == "boolean" else None
            case _:
                return _string(schema, name)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            target = self._root
            for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                if step:
                    target = target.get(step, {}) if isinstance(target, Mapping) else {}
            schema = target
        if not isinstance(schema, Mapping):
            return {}
        merged = dict(schema)
        for part in schema.get("allOf", ()):
            merged |= {
                key: {**merged.get(key, {}), **value} if key == "properties" else value
                for key, value in self._resolved(part).items()
            }
        return merged

    def _first_usable(self, choices: list[Any], depth: int) -> Any:
        # Deep down a choice without children ends a recursive schema.
        ordered = reversed(choices) if depth > _MAX_DEPTH // 2 else choices
        usable = [choice for choice in ordered if _kind(self._resolved(choice)) != "null"]
        return usable[0] if usable else choices[0]

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        order = schema.get("propertyOrdering") or [*properties]
        names = [*order, *(name for name in required if name not in order)]
        return {
            name: self.value(properties.get(name, {}), name, depth + 1)
            for name in names
            if depth < _MAX_DEPTH // 2 or (name in required and depth < _MAX_DEPTH * 2)
        }

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        first = [self.value(item, name, depth + 1) for item in schema.get("prefixItems", ())]
        wanted = int(schema.get("minItems") or (0 if first or depth >= _MAX_DEPTH // 2 else 1))
        wanted = min(wanted, int(schema.get("maxItems", wanted)))
        more = range(len(first), wanted)
        return first + [self.value(schema.get("items", {}), name, depth + 1) for _ in more]


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if str(item).lower() != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind).lower()


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf") or (1 if whole else 0.5)
    value = 1.0 if low is None else float(low)
    if high is not None and low is None:
        value = min(value, float(high))
    value = -(-value // step) * step
    if "exclusiveMinimum" in schema and value <= float(schema["exclusiveMinimum"]):
        value += step
    if "exclusiveMaximum" in schema and value >= float(schema["exclusiveMaximum"]):
        value -= step
    return int(value) if whole or value.is_integer() else value


def _string(schema: Mapping[str, Any], name: str) -> str:
    text = _FORMATS.get(str(schema.get("format", "")), f"sample {name.replace('_', ' ')}")
    text = text.ljust(int(schema.get("minLength") or 0), ".")
    return text[: int(schema["maxLength"])] if schema.get("maxLength") is not None else text
