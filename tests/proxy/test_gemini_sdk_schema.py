"""JSON Schema in the words that the retired SDK's messages have."""

from typing import Any

import pytest
from google.generativeai import protos
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.services.gemini_sdk_schema import DEPTH_MAX, to_sdk_schema

TEXT = {"type": "STRING"}
ANYTHING = {"type": "STRING"}


def convert(schema: Any) -> dict[str, Any]:
    converted = to_sdk_schema(schema, "tools")
    json_format.ParseDict(converted, protos.Schema.pb()())
    return converted


def properties(**schemas: Any) -> dict[str, Any]:
    return {"type": "object", "properties": schemas}


def test_an_ordinary_schema_keeps_what_the_message_knows() -> None:
    assert convert(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Trip",
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "where to", "title": "City"},
                "when": {"type": "string", "format": "date-time"},
                "days": {"type": "integer", "format": "int32"},
                "stops": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
            },
            "required": ["city", "no_property"],
            "additionalProperties": False,
        }
    ) == {
        "type": "OBJECT",
        "properties": {
            "city": {"type": "STRING", "description": "where to"},
            "when": {"type": "STRING", "format": "date-time"},
            "days": {"type": "INTEGER", "format": "int32"},
            "stops": {"type": "ARRAY", "items": {"type": "NUMBER"}, "maxItems": 3},
        },
        "required": ["city"],
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
        {"anyOf": [{"type": ["string", "null"]}]},
        {"type": "STRING", "nullable": True},
        {"anyOf": [{"type": "string", "nullable": True}]},
        {"type": "null"},
        {"enum": [None]},
    ],
)
def test_null_in_any_form_is_nullable(schema: Any) -> None:
    assert convert(schema) == {"type": "STRING", "nullable": True}


@pytest.mark.parametrize("schema", [{}, True, None, "string", [], {"type": 3}, {"$ref": "http:x"}])
def test_what_says_nothing_is_a_text(schema: Any) -> None:
    assert convert(schema) == ANYTHING


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"properties": {}}, "OBJECT"),
        ({"additionalProperties": {"type": "string"}}, "OBJECT"),
        ({"items": {"type": "string"}}, "ARRAY"),
        ({"minimum": 1}, "NUMBER"),
        ({"const": True}, "BOOLEAN"),
        ({"enum": [1, 2]}, "INTEGER"),
        ({"enum": [{}]}, "OBJECT"),
    ],
)
def test_a_type_that_is_not_named_is_seen_from_the_keywords(schema: Any, kind: str) -> None:
    assert convert(schema)["type"] == kind


def test_enumerations_are_of_texts_and_others_are_described() -> None:
    assert convert({"enum": ["a", "b", None, "a"]}) == {
        "type": "STRING",
        "format": "enum",
        "enum": ["a", "b"],
        "nullable": True,
    }
    assert convert({"const": "only"})["enum"] == ["only"]
    assert convert({"type": "integer", "enum": [1, 2], "description": "how many"}) == {
        "type": "INTEGER",
        "description": 'how many\nJSON Schema: {"enum":[1,2]}',
    }
    # Gemini refuses an empty text as a value.
    assert convert({"enum": ["", "a"]}) == {
        "type": "STRING",
        "description": 'JSON Schema: {"enum":["","a"]}',
    }


def test_limits_and_formats_without_a_place_are_described() -> None:
    assert convert({"type": "string", "format": "email", "maxLength": 9}) == {
        "type": "STRING",
        "description": 'JSON Schema: {"maxLength":9,"format":"email"}',
    }


def test_an_array_has_items_whatever_was_said() -> None:
    assert convert({"type": "array"}) == {"type": "ARRAY", "items": ANYTHING}
    assert convert({"type": "array", "minItems": "1", "items": True}) == convert({"type": "array"})
    pair = {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "number"}]}
    assert convert(pair)["items"]["type"] == "NUMBER"
    assert convert({"type": "array", "items": [{"type": "boolean"}]})["items"] == {
        "type": "BOOLEAN"
    }


def test_alternatives_of_one_type_are_joined() -> None:
    cat = {**properties(kind={"const": "cat"}, name={"type": "string"}), "required": ["kind"]}
    dog = {
        **properties(kind={"const": "dog"}, size={"type": "integer"}),
        "required": ["kind", "size"],
        "description": "barks",
    }
    assert convert({"oneOf": [cat, dog]}) == {
        "type": "OBJECT",
        "properties": {
            "kind": {"type": "STRING", "format": "enum", "enum": ["cat", "dog"]},
            "name": TEXT,
            "size": {"type": "INTEGER"},
        },
        "required": ["kind"],
        "description": "barks",
    }
    either = {"anyOf": [{"enum": ["a"]}, {"anyOf": [{"enum": ["b"]}, {"type": "null"}]}]}
    assert convert(either)["enum"] == ["a", "b"]
    assert convert(either)["nullable"] is True
    assert convert({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}) == TEXT
    lists = [{"type": "array", "items": {"const": letter}} for letter in "ab"]
    assert convert({"anyOf": lists})["items"]["enum"] == ["a", "b"]


def test_alternatives_of_several_types_become_a_text_and_are_described() -> None:
    assert convert({"anyOf": [{"type": "integer"}, {"type": "string"}]}) == {
        "type": "STRING",
        "description": 'JSON Schema: {"type":["integer","string"]}',
    }
    assert convert({"type": ["boolean", "array"], "items": {}})["type"] == "BOOLEAN"
    assert convert({"type": ["integer", "number"]})["type"] == "NUMBER"


def test_alternatives_that_only_require_names_loosen_an_object() -> None:
    schema = {
        **properties(a={"type": "string"}, b={"type": "string"}),
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert convert(schema) == {"type": "OBJECT", "properties": {"a": TEXT, "b": TEXT}}


def test_all_of_joins_what_holds_together() -> None:
    schema = {
        "allOf": [
            {**properties(a={"type": "string"}), "required": ["a"]},
            {"$ref": "#/definitions/b"},
        ],
        "definitions": {"b": {**properties(b={"type": "boolean"}), "required": ["b"]}},
    }
    assert convert(schema) == {
        "type": "OBJECT",
        "properties": {"b": {"type": "BOOLEAN"}, "a": TEXT},
        "required": ["a", "b"],
    }


def test_references_are_put_in_place_with_what_stands_beside_them() -> None:
    schema = {
        **properties(home={"$ref": "#/$defs/place/a~1b", "description": "lives"}),
        "$defs": {"place/a~1b": {}, "place": {"a/b": properties(zip={"type": "string"})}},
    }
    assert convert(schema)["properties"]["home"] == {
        "type": "OBJECT",
        "properties": {"zip": TEXT},
        "description": "lives",
    }


def test_a_schema_within_itself_ends_as_an_object_without_properties() -> None:
    node = properties(value={"type": "integer"}, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
    inner = convert(node)["properties"]["next"]
    assert inner == {
        "type": "OBJECT",
        "nullable": True,
        "properties": {
            "value": {"type": "INTEGER"},
            "next": {"type": "OBJECT", "nullable": True},
        },
    }
    assert convert({"$ref": "#"}) == {"type": "OBJECT"}
    circle = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    }
    assert convert(circle) == {"type": "OBJECT"}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for level in range(depth):
        schema = {"type": "array", "items": schema} if level % 2 else properties(a=schema)
    return schema


def test_depth_is_followed_as_far_as_the_message_can_and_refused_beyond() -> None:
    convert(nested(DEPTH_MAX))
    with pytest.raises(InvalidRequestError, match="nests too deep") as caught:
        convert(nested(DEPTH_MAX + 1))
    assert caught.value.field == "tools"


def doubling(*, properties_too: bool) -> dict[str, Any]:
    both = [[{"$ref": f"#/$defs/s{step + 1}"}] * 2 for step in range(20)]
    steps = {
        f"s{step}": properties(a=pair[0], b=pair[1]) if properties_too else {"anyOf": pair}
        for step, pair in enumerate(both)
    }
    return {"$ref": "#/$defs/s0", "$defs": steps}


@pytest.mark.parametrize("properties_too", [True, False])
def test_references_that_multiply_are_refused(*, properties_too: bool) -> None:
    with pytest.raises(InvalidRequestError, match="too large"):
        convert(doubling(properties_too=properties_too))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
KEYWORDS = (
    *("type", "properties", "required", "items", "prefixItems", "enum", "const", "anyOf", "oneOf"),
    *("allOf", "$ref", "$defs", "format", "description", "minItems", "minimum", "nullable"),
)
kinds = st.sampled_from(["string", "object", "array", "integer", "number", "null", "boolean"])
schemas = st.recursive(
    json_values | st.builds(lambda kind: {"type": kind}, kinds),
    lambda inner: st.dictionaries(
        st.sampled_from(KEYWORDS),
        inner
        | kinds
        | st.lists(inner | kinds, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner)
        | st.sampled_from(["#", "#/$defs/a", "#/properties/a", "nowhere"]),
        max_size=4,
    ),
    max_leaves=12,
)


@given(schemas)
def test_whatever_is_given_the_message_can_hold_it_and_gemini_takes_it(schema: Any) -> None:
    pending = [convert(schema)]
    while pending:
        converted = pending.pop()
        assert converted["type"] in {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"}
        assert ("items" in converted) == (converted["type"] == "ARRAY")
        assert converted["type"] == "STRING" or "enum" not in converted
        assert all(converted.get("enum", ["x"]))
        assert {*converted.get("required", ())} <= {*converted.get("properties", ())}
        pending += converted.get("properties", {}).values()
        pending += [converted["items"]] if "items" in converted else []
