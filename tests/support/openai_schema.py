"""Checks JSON against OpenAI's own description of its API.

The description is not part of the project: `OPENAI_API_DESCRIPTION` names the file; by default
it is looked for beside the checkout.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DESCRIPTION = Path(
    os.environ.get(
        "OPENAI_API_DESCRIPTION",
        Path(__file__).parents[3] / "shared" / "data" / "openai-openapi.yaml",
    )
)
_DOCUMENT = "urn:openai"
_ERRORS_SHOWN_MAX = 5
_TEXT_SHOWN_MAX = 300


def assert_valid(value: Any, schema: str) -> None:
    """Check a decoded JSON value against a schema of the description, by the schema's name."""
    errors = sorted(_validator(schema).iter_errors(value), key=lambda error: error.json_path)
    shown = [_shown(error) for error in errors[:_ERRORS_SHOWN_MAX]]
    assert not errors, f"not a valid {schema}:\n" + "\n".join(shown)


def _shown(error: ValidationError) -> str:
    lines = [f"{error.json_path}: {error.message[:_TEXT_SHOWN_MAX]}"]
    # Of an `anyOf`, only the alternatives say what was wrong.
    lines += [
        f"    {inner.json_path}: {inner.message[:_TEXT_SHOWN_MAX]}" for inner in error.context or ()
    ]
    return "\n".join(lines[: _ERRORS_SHOWN_MAX + 1])


@cache
def _validator(schema: str) -> Draft202012Validator:
    registry, names = _registry()
    assert schema in names, f"the description has no schema {schema}"
    return Draft202012Validator(
        {"$ref": f"{_DOCUMENT}#/components/schemas/{schema}"}, registry=registry
    )


@cache
def _registry() -> tuple[Registry[Any], frozenset[str]]:
    if not DESCRIPTION.is_file():
        pytest.skip(f"no description of OpenAI's API at {DESCRIPTION}")
    with DESCRIPTION.open("rb") as file:
        # The pure Python loader takes most of a minute for these 87,000 lines.
        described = yaml.load(file, Loader=yaml.CSafeLoader)
    schemas = _as_json_schema(described["components"]["schemas"])
    resource = Resource.from_contents(
        {"components": {"schemas": schemas}}, default_specification=DRAFT202012
    )
    return Registry[Any]().with_resource(_DOCUMENT, resource), frozenset(schemas)


def _as_json_schema(node: Any) -> Any:
    """Turn OpenAPI 3.0's `nullable`, which stands among 3.1's types here, into JSON Schema."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _as_json_schema(value) for key, value in node.items()}
    # A property that is called "nullable" would have a schema there, never a boolean.
    if inner.get("nullable") is not True:
        return inner
    del inner["nullable"]
    return {"anyOf": [inner, {"type": "null"}]}
