"""docs/compatibility.md is what its generator makes, and has all of OpenAI's fields and ours.

OpenAI's are those of its API description, where that lies beside the checkout (see
support/openai_schema.py).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from support.compatibility import CHAT_SECTIONS, GENERATOR, ROOT, SECTIONS, rows
from support.openai_schema import DESCRIPTION

SECTIONS_OF: dict[str, tuple[str, ...]] = {
    "ChatRequest": CHAT_SECTIONS,
    "GoogleOptions": ("google",),
    "TextRequest": ("completions",),
    "EmbeddingRequest": ("embeddings",),
    "EmbeddingGoogleOptions": ("embeddings-google",),
}
EFFECTIVE = {"used", "checked", "refused"}


def test_the_document_is_what_the_generator_makes() -> None:
    written = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")

    assert written == GENERATOR["document"](), (
        "run: python deploy/make_compatibility.py > docs/compatibility.md"
    )


@pytest.mark.parametrize("name", SECTIONS_OF)
def test_every_field_that_is_read_has_a_row_and_every_claim_a_field(name: str) -> None:
    prefix = "google." if "GoogleOptions" in name else ""
    known = set(GENERATOR["fields"](GENERATOR["TYPES"][name], prefix))
    told = rows(*SECTIONS_OF[name])

    assert known - set(told) == set()
    assert {field for field, here in told.items() if here in EFFECTIVE} - known == set()


def test_every_type_of_request_has_its_sections() -> None:
    named = {section["of"] for section in SECTIONS if "of" in section}

    assert named == set(SECTIONS_OF) == set(GENERATOR["TYPES"])


@cache
def described() -> dict[str, Any]:
    if not DESCRIPTION.is_file():
        pytest.skip(f"no description of OpenAI's API at {DESCRIPTION}")
    with DESCRIPTION.open("rb") as file:
        schemas: dict[str, Any] = yaml.load(file, Loader=yaml.CSafeLoader)["components"]["schemas"]
    return schemas


def properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return all properties of a schema, in whichever part or alternative of it."""
    if "$ref" in schema:
        return properties(described()[schema["$ref"].rpartition("/")[2]])
    found = dict(schema.get("properties", {}))
    for joined in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(joined, ()):
            found = {**properties(part), **found}
    return found


def at(name: str, *steps: str) -> dict[str, Any]:
    """Return the properties of a schema, or of what its properties lead to."""
    found = properties(described()[name])
    for step in steps:
        inner = found[step]
        while "items" in inner:
            inner = inner["items"]
        found = properties(inner)
    return found


@pytest.mark.parametrize(
    ("section", "prefix", "schema", "steps"),
    [
        ("chat", "", "CreateChatCompletionRequest", ()),
        ("chat", "stream_options.", "ChatCompletionStreamOptions", ()),
        ("chat", "response_format.", "ResponseFormatJsonSchema", ()),
        ("chat", "response_format.json_schema.", "ResponseFormatJsonSchema", ("json_schema",)),
        ("chat", "functions[].", "ChatCompletionFunctions", ()),
        ("chat", "audio.", "CreateChatCompletionRequest", ("audio",)),
        ("messages", "messages[].", "ChatCompletionRequestMessage", ()),
        ("messages", "messages[].tool_calls[].", "ChatCompletionMessageToolCall", ()),
        ("messages", "messages[].tool_calls[].", "ChatCompletionMessageCustomToolCall", ()),
        ("parts", "messages[].content[].", "ChatCompletionRequestUserMessageContentPart", ()),
        ("parts", "messages[].content[].", "ChatCompletionRequestMessageContentPartRefusal", ()),
        (
            "parts",
            "messages[].content[].image_url.",
            "ChatCompletionRequestMessageContentPartImage",
            ("image_url",),
        ),
        (
            "parts",
            "messages[].content[].input_audio.",
            "ChatCompletionRequestMessageContentPartAudio",
            ("input_audio",),
        ),
        (
            "parts",
            "messages[].content[].file.",
            "ChatCompletionRequestMessageContentPartFile",
            ("file",),
        ),
        ("tools", "tools[].", "ChatCompletionTool", ()),
        ("tools", "tools[].function.", "FunctionObject", ()),
        ("tools", "tools[].", "CustomToolChatCompletions", ()),
        ("tools", "tools[].custom.", "CustomToolChatCompletions", ("custom",)),
        ("completions", "", "CreateCompletionRequest", ()),
        ("embeddings", "", "CreateEmbeddingRequest", ()),
        ("chat-answer", "", "CreateChatCompletionResponse", ()),
        ("chat-answer", "choices[].", "CreateChatCompletionResponse", ("choices",)),
        ("message", "", "ChatCompletionResponseMessage", ()),
        ("chunk", "", "CreateChatCompletionStreamResponse", ()),
        ("chunk", "choices[].", "CreateChatCompletionStreamResponse", ("choices",)),
        ("message", "", "ChatCompletionStreamResponseDelta", ()),
        ("usage", "", "CompletionUsage", ()),
        ("usage", "prompt_tokens_details.", "CompletionUsage", ("prompt_tokens_details",)),
        (
            "usage",
            "completion_tokens_details.",
            "CompletionUsage",
            ("completion_tokens_details",),
        ),
        ("completions-answer", "", "CreateCompletionResponse", ()),
        ("completions-answer", "choices[].", "CreateCompletionResponse", ("choices",)),
        ("embeddings-answer", "", "CreateEmbeddingResponse", ()),
        ("embeddings-answer", "data[].", "Embedding", ()),
        ("embeddings-answer", "usage.", "CreateEmbeddingResponse", ("usage",)),
        ("model", "", "Model", ()),
    ],
)
def test_every_field_of_openais_has_a_row(
    section: str, prefix: str, schema: str, steps: tuple[str, ...]
) -> None:
    expected = {f"{prefix}{name}" for name in at(schema, *steps)}

    assert expected
    assert expected - set(rows(section)) == set()


@pytest.mark.parametrize(
    ("section", "schema", "field"),
    [
        ("roles", "ChatCompletionRequestMessage", "role"),
        ("part-types", "ChatCompletionRequestUserMessageContentPart", "type"),
        ("part-types", "ChatCompletionRequestAssistantMessageContentPart", "type"),
        ("tool-types", "ChatCompletionTool", "type"),
        ("tool-types", "CustomToolChatCompletions", "type"),
        ("response-formats", "ResponseFormatText", "type"),
        ("response-formats", "ResponseFormatJsonObject", "type"),
        ("response-formats", "ResponseFormatJsonSchema", "type"),
    ],
)
def test_every_kind_of_openais_has_a_row(section: str, schema: str, field: str) -> None:
    alternatives = described()[schema].get("oneOf", [{"$ref": schema}])
    kinds = {kind for each in alternatives for kind in properties(each)[field]["enum"]}

    assert kinds
    assert kinds - set(rows(section)) == set()


def test_every_form_of_tool_choice_has_a_row() -> None:
    forms = described()["ChatCompletionToolChoiceOption"]["oneOf"]
    names = {name for form in forms for name in form.get("enum", ())}
    kinds = {
        kind for form in forms if "enum" not in form for kind in properties(form)["type"]["enum"]
    }

    assert names | {f"{{type: {kind}}}" for kind in kinds} <= set(rows("tool-choice"))
