"""The simulator's form is that of recorded traffic and of the API description, where those lie.

They are not part of the project: `GEMINI_WIRE_DIR` names the folder of recordings and
`GEMINI_API_DESCRIPTION` the description; by default they are looked for beside the checkout.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemini_simulator import messages
from gemini_simulator.proto_json import read_message
from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, function

_SHARED = Path(__file__).parents[3] / "shared"
RECORDINGS = Path(os.environ.get("GEMINI_WIRE_DIR", _SHARED / "gemini-wire" / "open"))
DESCRIPTION = Path(
    os.environ.get("GEMINI_API_DESCRIPTION", _SHARED / "data" / "generativelanguage.v1beta.json")
)
METHODS: dict[str, type[msgspec.Struct]] = {
    "generateContent": messages.GenerateContentRequest,
    "streamGenerateContent": messages.GenerateContentRequest,
    "countTokens": messages.CountTokensRequest,
    "batchEmbedContents": messages.BatchEmbedContentsRequest,
}
# Newer than the description; known to Google's current client or seen in recordings.
NEWER = {
    "UsageMetadata": {"serviceTier"},
    "FunctionCallingConfig": set[str](),
    "PromptFeedback": {"blockReasonMessage"},
}


@cache
def recordings() -> list[dict[str, Any]]:
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings at {RECORDINGS}")
    return [json.loads(path.read_text()) for path in sorted(RECORDINGS.glob("*.json"))]


@cache
def schemas() -> dict[str, Any]:
    if not DESCRIPTION.is_file():
        pytest.skip(f"no API description at {DESCRIPTION}")
    described: dict[str, Any] = json.loads(DESCRIPTION.read_text())["schemas"]
    return described


def check(value: Any, schema: dict[str, Any], path: str) -> None:
    """Compare a value with the description, field by field."""
    if "$ref" in schema:
        name = schema["$ref"]
        known = schemas()[name].get("properties", {})
        assert isinstance(value, dict), path
        assert set(value) <= set(known) | NEWER.get(name, set()), path
        for key, item in value.items():
            if key in known:
                check(item, known[key], f"{path}.{key}")
        return
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
    }
    assert isinstance(value, kinds.get(schema.get("type", ""), object)), path
    if "enum" in schema:
        assert value in schema["enum"], path
    if isinstance(value, list):
        for index, item in enumerate(value):
            check(item, schema["items"], f"{path}[{index}]")


def test_every_recorded_request_that_was_accepted_is_read() -> None:
    read = 0
    for recorded in recordings():
        method = recorded["path"].rpartition(":")[2]
        is_gemini = str(recorded.get("host", "")).startswith("generativelanguage")
        if recorded["status"] == 200 and method in METHODS and is_gemini and recorded["request"]:
            read_message(METHODS[method], json.dumps(recorded["request"]).encode())
            read += 1
    assert read > 100


@pytest.mark.parametrize("name", ["Schema", "Content", "Part", "Tool", "FunctionDeclaration"])
def test_every_described_request_field_is_known(name: str) -> None:
    known = {item.encode_name for item in msgspec.structs.fields(getattr(messages, name))}
    assert set(schemas()[name]["properties"]) <= known


@pytest.mark.parametrize("name", ["GenerationConfig", "GenerateContentRequest", "FunctionResponse"])
def test_every_described_option_is_known(name: str) -> None:
    known = {item.encode_name for item in msgspec.structs.fields(getattr(messages, name))}
    assert set(schemas()[name]["properties"]) <= known


@pytest.mark.parametrize("model", ["gemini-2.0-flash", FLASH_25, FLASH_3])
@pytest.mark.parametrize(
    "directive",
    [
        "",
        "finish=SAFETY",
        "block=SAFETY",
        "cached=2 tool_prompt=3",
        "call=f,g",
        "finish=MAX_TOKENS",
    ],
)
def test_answers_have_only_described_fields_of_the_described_types(
    gemini: WireClient, model: str, directive: str
) -> None:
    tools = [{"functionDeclarations": [function("f"), function("g")]}]
    request = body(f"Hi [[sim tokens=3 {directive}]]", tools=tools)
    for chunk in [gemini.generate(request, model), *gemini.stream(request, model)]:
        check(chunk, {"$ref": "GenerateContentResponse"}, "response")


def test_models_have_the_described_fields(gemini: WireClient) -> None:
    check(gemini.http.get("/v1beta/models").json(), {"$ref": "ListModelsResponse"}, "list")


def test_model_entries_equal_recorded_ones_in_limits_and_methods(gemini: WireClient) -> None:
    recorded: dict[str, Any] = {}
    for entry in recordings():
        if entry["path"] == "/v1beta/models":
            recorded |= {model["name"]: model for model in entry["response"]["models"]}
    served = {model["name"]: model for model in gemini.http.get("/v1beta/models").json()["models"]}
    common = set(served) & set(recorded)
    assert len(common) >= 10
    fields = (
        "inputTokenLimit",
        "outputTokenLimit",
        "supportedGenerationMethods",
        "version",
        "topK",
    )
    for name in common:
        for key in fields:
            assert served[name].get(key) == recorded[name].get(key), (name, key)


@pytest.mark.parametrize("model", [FLASH_25, "gemini-3-flash-preview"])
def test_a_stream_has_no_fields_that_recorded_streams_of_the_model_lack(
    gemini: WireClient, model: str
) -> None:
    def shape(chunks: list[Any]) -> set[str]:
        return {
            path
            for chunk in chunks
            for path in (
                *chunk,
                *(f"candidate.{key}" for c in chunk.get("candidates", []) for key in c),
                *(f"usage.{key}" for key in chunk.get("usageMetadata", {})),
            )
        }

    seen = [
        entry["response_sse"]
        for entry in recordings()
        if entry.get("response_sse") and model in entry["path"] and entry["status"] == 200
    ]
    recorded = set().union(*(shape(chunks) for chunks in seen))
    assert shape(gemini.stream(body("Hi"), model)) <= recorded
