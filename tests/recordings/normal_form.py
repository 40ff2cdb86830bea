"""A `generateContent` request in one form, whichever of the many that Gemini takes it had.

What the form evens out, because Gemini makes no difference or OpenAI's form can't say it:
snake and camel case; enums in capitals, small letters or numbers; null, absent and empty; one
object instead of a list; a missing role; base64 for URLs; runs of one role. Schemas in the
OpenAPI subset are those in JSON Schema, without `$schema`; a function's schema without
properties is none, and the schema of its result is left out. `AUTO`, one candidate, text as the
only modality and as the MIME type are what Gemini does anyway. The role of the system
instruction, thoughts (their text) in the history, `includeThoughts: true` and the output limit
that the proxy sends where there is none, are left out.
"""

import re
from collections.abc import Mapping
from typing import Any

from recordings.settings import OUTPUT_TOKENS_MAX

Json = dict[str, Any]

_SCHEMA_TYPES = ("", "string", "number", "integer", "boolean", "array", "object")
# https://ai.google.dev/api/generate-content#HarmCategory
_CATEGORIES = {7: "HARASSMENT", 8: "HATE_SPEECH", 9: "SEXUALLY_EXPLICIT", 10: "DANGEROUS_CONTENT"}
_THRESHOLDS = {3: "BLOCK_ONLY_HIGH", 4: "BLOCK_NONE"}
_SIGNATURE = "thoughtSignature"
# Stands in for the signature of a call that has none.
SENTINEL = "skip_thought_signature_validator"
_SIGNED_CALLS = re.compile(r"gemini-(3|\w+-latest)")


def camel(fields: Mapping[str, Any] | None) -> Json:
    """Return fields with their names in camel case, without absent ones; not what is in them."""
    return {
        re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value
        for name, value in (fields or {}).items()
        if value is not None
    }


def as_list(value: Any) -> list[Any]:
    """Return a list, of which Gemini takes the only item as well."""
    return value if isinstance(value, list) else [] if value is None else [value]


def normal_request(body: Mapping[str, Any], model: str) -> Json:
    """Return a request in the normal form."""
    given = camel(body)
    instruction = camel(given.get("systemInstruction"))
    functions, own_tools = normal_tools(given.get("tools"))
    form = {
        "contents": _contents(given["contents"], model),
        "system": [part["text"] for part in as_list(instruction.get("parts")) if part["text"]],
        "config": normal_config(given.get("generationConfig")),
        "functions": functions,
        "own_tools": own_tools,
        "calling": normal_calling(given.get("toolConfig"), mixed=bool(functions and own_tools)),
        "safety": normal_safety(given.get("safetySettings")),
        "cached": given.get("cachedContent"),
    }
    return {name: value for name, value in form.items() if value}


def _contents(contents: Any, model: str) -> list[Json]:
    merged: list[Json] = []
    for content in as_list(contents):
        parts = [normal_part(part) for part in as_list(content["parts"])]
        parts = [part for part in parts if part]
        if not parts:
            continue
        role = content.get("role") or "user"
        joins = merged and merged[-1]["role"] == role
        if joins and "functionResponse" not in merged[-1]["parts"][0]:
            merged[-1]["parts"] += parts
        else:
            merged.append({"role": role, "parts": parts})
    for content in merged:
        content["parts"] = _signed(content["parts"], model)
    return merged


def _signed(parts: list[Json], model: str) -> list[Json]:
    """Join a part that is only a signature with the one before it; leave out the sentinel."""
    signed: list[Json] = []
    for part in parts:
        if set(part) == {_SIGNATURE} and signed:
            signed[-1] |= part
        elif part.get(_SIGNATURE) == SENTINEL and _SIGNED_CALLS.match(model):
            signed.append({key: value for key, value in part.items() if key != _SIGNATURE})
        else:
            signed.append(part)
    return signed


def normal_part(given: Mapping[str, Any]) -> Json:
    """Return a part in the normal form; empty for one that is left out."""
    part = camel(given)
    if part.pop("thought", False) or part == {"text": ""}:
        return {}
    for name in ("inlineData", "fileData", "functionCall", "functionResponse"):
        if name in part:
            part[name] = camel(part[name])
    blob, response = part.get("inlineData"), part.get("functionResponse")
    if blob is not None:
        blob["data"] = blob["data"].replace("-", "+").replace("_", "/")
    if response is not None and "parts" in response:
        response["parts"] = [normal_part(inner) for inner in response["parts"]]
    return part


def normal_config(given: Mapping[str, Any] | None) -> Json:
    """Return a `generationConfig` in the normal form."""
    config = camel(given)
    usual = {
        "maxOutputTokens": OUTPUT_TOKENS_MAX,
        "candidateCount": 1,
        "responseMimeType": "text/plain",
        "responseModalities": ["TEXT"],
    }
    config = {name: value for name, value in config.items() if usual.get(name) != value}
    schema = config.pop("responseSchema", None) or config.pop("responseJsonSchema", None)
    if schema is not None:
        config["schema"] = normal_schema(schema)
    if "responseModalities" in config:
        config["responseModalities"] = sorted(config["responseModalities"])
    thinking = camel(config.pop("thinkingConfig", None))
    if thinking.get("includeThoughts"):
        del thinking["includeThoughts"]
    if "thinkingLevel" in thinking:
        thinking["thinkingLevel"] = thinking["thinkingLevel"].upper()
    return config | ({"thinkingConfig": thinking} if thinking else {})


def normal_schema(schema: Any) -> Any:
    """Return a schema as JSON Schema."""
    if isinstance(schema, list):
        return [normal_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    form: Json = {}
    for name, value in schema.items():
        if name in {"properties", "$defs"}:
            form[name] = {key: normal_schema(inner) for key, inner in value.items()}
        elif name == "type":
            form[name] = _type(value)
        elif name in {"property_ordering", "propertyOrdering"}:
            form["propertyOrdering"] = value
        elif name in {"items", "prefixItems", "anyOf", "additionalProperties"}:
            form[name] = normal_schema(value)
        elif name != "$schema":
            form[name] = value
    return form


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return [_type(item) for item in value]
    return _SCHEMA_TYPES[value] if isinstance(value, int) else value.lower()


def normal_tools(given: Any) -> tuple[dict[str, Json], list[Json]]:
    """Return the functions by name, and Google's own tools."""
    functions: dict[str, Json] = {}
    own: list[Json] = []
    for tool in as_list(given):
        members = camel(tool)
        for declaration in as_list(members.pop("functionDeclarations", None)):
            function = normal_function(declaration)
            functions[function.pop("name")] = function
        own += [{name: value} for name, value in sorted(members.items())]
    return functions, sorted(own, key=str)


def normal_function(declaration: Mapping[str, Any]) -> Json:
    """Return a function's name, description and schema, as far as it has them."""
    given = camel(declaration)
    schema = normal_schema(given.get("parametersJsonSchema") or given.get("parameters") or {})
    form = {"name": given["name"], "description": given.get("description")}
    if schema.get("properties"):
        form["schema"] = schema
    return {name: value for name, value in form.items() if value}


def normal_calling(given: Mapping[str, Any] | None, *, mixed: bool) -> Json:
    """Return how functions may be called.

    Args:
        given: the `toolConfig`.
        mixed: there are both functions and Google's own tools; only then does it matter
            whether those show their calls.
    """
    config = camel(given)
    calling = camel(config.get("functionCallingConfig"))
    form: Json = {}
    mode = str(calling.get("mode", "AUTO")).upper()
    if mode != "AUTO":
        form["mode"] = mode
    if calling.get("allowedFunctionNames"):
        form["names"] = sorted(calling["allowedFunctionNames"])
    if mixed and config.get("includeServerSideToolInvocations"):
        form["server_side"] = True
    return form


def normal_safety(given: Any) -> dict[str, str]:
    """Return the threshold of each category."""
    found: dict[str, str] = {}
    for setting in as_list(given):
        category, threshold = setting["category"], setting["threshold"]
        name = _CATEGORIES[category] if isinstance(category, int) else category
        found[str(name).removeprefix("HARM_CATEGORY_")] = (
            _THRESHOLDS[threshold] if isinstance(threshold, int) else threshold
        )
    return found
