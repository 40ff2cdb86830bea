"""docs/compatibility.md is what the generator makes, is whole, and is true.

Whole against OpenAI's description of its API, where that lies beside the checkout (see
support/openai_schema.py); true in that each claim is tried on the code.
"""

import json
import runpy
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.pricing import load_catalog
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.embeddings import (
    EmbeddingRequest,
    embeddings_body,
    parse_embeddings,
)
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import (
    Surroundings,
    TranslatedChat,
    ignored_names,
    parse_chat,
    to_gemini,
)
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from ai_proxy_service.translation.text_completion import (
    TextRequest,
    TextStreamTranslator,
    as_chat,
    parse_text,
    text_choices,
    text_completion,
)
from ai_proxy_service.translation.tools import read_tools
from service_kit.errors import ServiceError
from support.openai_schema import DESCRIPTION
from support.prices import SHIPPED

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "deploy" / "make_compatibility.py"))
SECTIONS: list[dict[str, Any]] = GENERATOR["sections"]()
BY_ID: dict[str, dict[str, str]] = {
    section["id"]: {name: row[0] for name, row in section["rows"].items()}
    for section in SECTIONS
    if "id" in section
}
CHAT_IDS = ("chat", "chat-more", "messages", "parts", "tools")
REQUEST_IDS: dict[str, tuple[str, ...]] = {
    "ChatRequest": CHAT_IDS,
    "GoogleOptions": ("google",),
    "TextRequest": ("completions",),
    "EmbeddingRequest": ("embeddings",),
    "EmbeddingGoogleOptions": ("embeddings-google",),
}
EFFECTIVE = {"used", "checked", "refused"}
TEXT_MODEL = "gemini-2.5-flash"
REFUSED_VALUES: dict[str, Any] = {
    "logit_bias": {"50256": -100},
    "best_of": 2,
    "echo": True,
    "suffix": "the end",
}


def rows(ids: tuple[str, ...]) -> dict[str, str]:
    """Return the rows of sections: what the document says of each field."""
    return {name: here for each in ids for name, here in BY_ID[each].items()}


def claimed(ids: tuple[str, ...], *words: str) -> list[str]:
    """Return the top-level fields of which the document says one of the words."""
    return [name for name, here in rows(ids).items() if here in words and name.isidentifier()]


# The document and the code


def test_the_document_is_what_the_generator_makes() -> None:
    written = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")

    assert written == GENERATOR["document"](), (
        "run: python deploy/make_compatibility.py > docs/compatibility.md"
    )


@pytest.mark.parametrize("name", REQUEST_IDS)
def test_every_field_that_is_read_has_a_row_and_every_claim_a_field(name: str) -> None:
    prefix = "google." if "GoogleOptions" in name else ""
    known = set(GENERATOR["fields"](GENERATOR["TYPES"][name], prefix))
    told = rows(REQUEST_IDS[name])

    assert known - set(told) == set()
    assert {field for field, here in told.items() if here in EFFECTIVE} - known == set()


def test_every_type_of_request_has_its_sections() -> None:
    named = {section["of"] for section in SECTIONS if "of" in section}

    assert named == set(REQUEST_IDS) == set(GENERATOR["TYPES"])


# OpenAI's description


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
    ("ids", "prefix", "schema", "steps"),
    [
        (("chat",), "", "CreateChatCompletionRequest", ()),
        (("chat",), "stream_options.", "ChatCompletionStreamOptions", ()),
        (("chat",), "response_format.", "ResponseFormatJsonSchema", ()),
        (("chat",), "response_format.json_schema.", "ResponseFormatJsonSchema", ("json_schema",)),
        (("chat",), "functions[].", "ChatCompletionFunctions", ()),
        (("chat",), "audio.", "CreateChatCompletionRequest", ("audio",)),
        (("messages",), "messages[].", "ChatCompletionRequestMessage", ()),
        (("messages",), "messages[].tool_calls[].", "ChatCompletionMessageToolCall", ()),
        (("messages",), "messages[].tool_calls[].", "ChatCompletionMessageCustomToolCall", ()),
        (("parts",), "messages[].content[].", "ChatCompletionRequestUserMessageContentPart", ()),
        (("parts",), "messages[].content[].", "ChatCompletionRequestMessageContentPartRefusal", ()),
        (
            ("parts",),
            "messages[].content[].image_url.",
            "ChatCompletionRequestMessageContentPartImage",
            ("image_url",),
        ),
        (
            ("parts",),
            "messages[].content[].input_audio.",
            "ChatCompletionRequestMessageContentPartAudio",
            ("input_audio",),
        ),
        (
            ("parts",),
            "messages[].content[].file.",
            "ChatCompletionRequestMessageContentPartFile",
            ("file",),
        ),
        (("tools",), "tools[].", "ChatCompletionTool", ()),
        (("tools",), "tools[].function.", "FunctionObject", ()),
        (("tools",), "tools[].", "CustomToolChatCompletions", ()),
        (("tools",), "tools[].custom.", "CustomToolChatCompletions", ("custom",)),
        (("completions",), "", "CreateCompletionRequest", ()),
        (("embeddings",), "", "CreateEmbeddingRequest", ()),
        (("chat-answer",), "", "CreateChatCompletionResponse", ()),
        (("chat-answer",), "choices[].", "CreateChatCompletionResponse", ("choices",)),
        (("message",), "", "ChatCompletionResponseMessage", ()),
        (("chunk",), "", "CreateChatCompletionStreamResponse", ()),
        (("chunk",), "choices[].", "CreateChatCompletionStreamResponse", ("choices",)),
        (("message",), "", "ChatCompletionStreamResponseDelta", ()),
        (("usage",), "", "CompletionUsage", ()),
        (("usage",), "prompt_tokens_details.", "CompletionUsage", ("prompt_tokens_details",)),
        (
            ("usage",),
            "completion_tokens_details.",
            "CompletionUsage",
            ("completion_tokens_details",),
        ),
        (("completions-answer",), "", "CreateCompletionResponse", ()),
        (("completions-answer",), "choices[].", "CreateCompletionResponse", ("choices",)),
        (("embeddings-answer",), "", "CreateEmbeddingResponse", ()),
        (("embeddings-answer",), "data[].", "Embedding", ()),
        (("embeddings-answer",), "usage.", "CreateEmbeddingResponse", ("usage",)),
        (("model",), "", "Model", ()),
    ],
)
def test_every_field_of_openais_has_a_row(
    ids: tuple[str, ...], prefix: str, schema: str, steps: tuple[str, ...]
) -> None:
    expected = {f"{prefix}{name}" for name in at(schema, *steps)}

    assert expected
    assert expected - set(rows(ids)) == set()


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
    assert kinds - set(BY_ID[section]) == set()


def test_every_form_of_tool_choice_has_a_row() -> None:
    forms = described()["ChatCompletionToolChoiceOption"]["oneOf"]
    names = {name for form in forms for name in form.get("enum", ())}
    kinds = {
        kind for form in forms if "enum" not in form for kind in properties(form)["type"]["enum"]
    }

    assert names | {f"{{type: {kind}}}" for kind in kinds} <= set(BY_ID["tool-choice"])


# What is said of requests


def translated(model: str = TEXT_MODEL, **fields: Any) -> TranslatedChat:
    """Translate a chat request with these fields."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    chat = parse_chat(json.dumps(body).encode())
    price = load_catalog(SHIPPED, Decimal(1)).models[model]
    return to_gemini(chat, model, Surroundings(price=price))


def refused_field(act: Callable[[], Any]) -> str | None:
    """Return the field that a refusal names."""
    with pytest.raises(ServiceError) as refusal:
        act()
    assert refusal.value.status == 400
    return refusal.value.field


@pytest.mark.parametrize("field", claimed(("chat",), "ignored"))
def test_what_is_ignored_in_a_chat_changes_nothing_and_is_named(field: str) -> None:
    body = {"model": "m", field: {"any": ["thing"]}}

    assert translated(**{field: {"any": ["thing"]}}).body == translated().body
    assert ignored_names(json.dumps(body).encode()) == [field]


@pytest.mark.parametrize("field", claimed(CHAT_IDS, "checked"))
def test_what_is_only_checked_changes_nothing_and_is_named(field: str) -> None:
    told = translated(**{field: 0.5})

    assert told.body == translated().body
    assert told.ignored == [field]
    assert refused_field(lambda: translated(**{field: 99})) == field


@pytest.mark.parametrize("field", claimed(CHAT_IDS, "refused"))
def test_what_is_refused_in_a_chat_is_a_400_that_names_it(field: str) -> None:
    assert refused_field(lambda: translated(**{field: REFUSED_VALUES[field]})) == field


@pytest.mark.parametrize("field", claimed(("completions",), "refused"))
def test_what_is_refused_in_a_completion_is_a_400_that_names_it(field: str) -> None:
    body = {"model": "m", "prompt": "x", field: REFUSED_VALUES[field]}

    assert refused_field(lambda: parse_text(json.dumps(body).encode())) == field


@pytest.mark.parametrize("field", claimed(("completions",), "checked"))
def test_what_is_only_checked_in_a_completion_is_named(field: str) -> None:
    wanted = parse_text(json.dumps({"model": "m", "prompt": "Hi", field: 0.5}).encode())
    price = load_catalog(SHIPPED, Decimal(1)).models[TEXT_MODEL]
    told = to_gemini(as_chat(wanted, "Hi"), TEXT_MODEL, Surroundings(price=price))

    assert told.ignored == [field]
    assert told.body == translated().body


def test_tokens_are_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidRequestError, match="check_embedding_ctx_length=False") as refusal:
        parse_embeddings(b'{"model":"m","input":[[1,2]]}')

    assert refusal.value.field == "input"


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED = [{"role": "user", "content": "Hi"}]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "system": [{"role": "system", "content": "x"}, *ASKED],
    "developer": [{"role": "developer", "content": "x"}, *ASKED],
    "user": ASKED,
    "assistant": [*ASKED, {"role": "assistant", "content": "x"}],
    "model": [*ASKED, {"role": "model", "content": "x"}],
    "tool": [
        *ASKED,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "function": [
        *ASKED,
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
    ],
}
PARTS: dict[str, dict[str, Any]] = {
    "text": {"text": "x"},
    "refusal": {"refusal": "x"},
    "image_url": {"image_url": {"url": "data:image/png;base64,AAAA"}},
    "input_audio": {"input_audio": {"data": "AAAA", "format": "wav"}},
    "file": {"file": {"file_data": "AAAA", "filename": "a.pdf"}},
    "video_url": {"video_url": {"url": "https://example.com/a.mp4"}},
    "input_video": {"input_video": "https://example.com/a.mp4"},
}
FUNCTION = {"type": "function", "function": {"name": "f"}}
CUSTOM = {"type": "custom", "custom": {"name": "g"}}
TOOLS: dict[str, dict[str, Any]] = {
    "function": FUNCTION,
    "custom": CUSTOM,
    "web_search": {"type": "web_search"},
    "web_search_preview": {"type": "web_search_preview"},
}
CHOICES: dict[str, Any] = {
    **{name: name for name in ("none", "auto", "required")},
    "{type: function}": FUNCTION,
    "{type: custom}": CUSTOM,
    "{type: allowed_tools}": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [FUNCTION]},
    },
}
FORMATS: dict[str, dict[str, Any]] = {
    "text": {},
    "json_object": {},
    "json_schema": {"json_schema": {"name": "n", "schema": {"type": "object"}}},
}


def kinds(section: str) -> set[str]:
    """Return the kinds that the document says are accepted; all others it says are refused."""
    named = dict(BY_ID[section])
    assert named.pop("anything else") == "refused"
    assert set(named.values()) == {"used"}
    return set(named)


def test_the_roles_are_the_ones_that_are_accepted() -> None:
    for messages in CONVERSATIONS.values():
        assert translated(messages=messages).body["contents"]

    assert kinds("roles") == set(CONVERSATIONS)
    wrong = [{"role": "critic", "content": "x"}]
    assert refused_field(lambda: translated(messages=wrong)) == "messages[0].role"


def test_the_kinds_of_parts_are_the_ones_that_are_accepted() -> None:
    for kind, part in PARTS.items():
        message = {"role": "user", "content": [{"type": kind, **part}]}
        assert len(translated(messages=[message]).body["contents"][0]["parts"]) == 1

    assert kinds("part-types") == set(PARTS)
    wrong = [{"role": "user", "content": [{"type": "hologram"}]}]
    assert refused_field(lambda: translated(messages=wrong)) == "messages[0].content[0].type"


def test_the_kinds_of_tools_are_the_ones_that_are_accepted() -> None:
    for tool in TOOLS.values():
        assert translated(tools=[tool]).body["tools"]

    assert kinds("tool-types") == set(TOOLS)
    assert refused_field(lambda: translated(tools=[{"type": "mcp"}])) == "tools[0].type"


def test_the_forms_of_tool_choice_are_the_ones_that_are_accepted() -> None:
    for choice in CHOICES.values():
        body = translated(tools=[FUNCTION, CUSTOM], tool_choice=choice).body
        assert body["toolConfig"]["functionCallingConfig"]["mode"] in {"NONE", "AUTO", "ANY"}

    assert kinds("tool-choice") == set(CHOICES)
    for wrong in ("maybe", {"type": "hosted"}):
        assert (
            refused_field(lambda wrong=wrong: translated(tools=[FUNCTION], tool_choice=wrong))  # type: ignore[misc]  # bound
            == "tool_choice"
        )


def test_the_response_formats_are_the_ones_that_are_accepted() -> None:
    for kind, more in FORMATS.items():
        config = translated(response_format={"type": kind, **more}).body["generationConfig"]
        assert ("responseMimeType" in config) == (kind != "text")

    assert kinds("response-formats") == set(FORMATS)
    wrong = {"type": "xml"}
    assert refused_field(lambda: translated(response_format=wrong)) == "response_format.type"


# What is said of answers

CHUNK: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "Hello", "thoughtSignature": "c2ln"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
                    {
                        "functionCall": {"name": "f", "args": {}},
                        "thoughtSignature": "c2ln",
                    },
                    {"functionCall": {"name": "g", "args": {"input": "x"}}},
                ]
            },
            "finishReason": "STOP",
            "logprobsResult": {
                "chosenCandidates": [{"token": "Hello", "logProbability": -0.5}],
                "topCandidates": [{"candidates": [{"token": "Hello", "logProbability": -0.5}]}],
            },
        }
    ],
}
HEAD: dict[str, Any] = {"completion_id": "x", "created": 1, "model": "m"}


def answer(*, legacy: bool = False) -> AnswerState:
    """Return an answer with everything that an answer can have."""
    tools = {"functions": [{"name": "f"}]} if legacy else {"tools": [FUNCTION, CUSTOM]}
    chat = parse_chat(json.dumps({"model": "m", "messages": ASKED, **tools}).encode())
    return AnswerState(read_tools(chat), one_call=legacy)


def chunk() -> GenerateContentResponse:
    return msgspec.json.decode(json.dumps(CHUNK).encode(), type=GenerateContentResponse)


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Return the paths of all members of a JSON value."""
    if isinstance(value, list):
        for item in value:
            yield from paths(item, f"{prefix}[]")
    elif isinstance(value, dict):
        for name, item in value.items():
            path = f"{prefix}.{name}" if prefix else name
            yield path
            yield from paths(item, path)


def events(sent: bytes) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in sent.split(b"\n\n") if event]


def whole_answers() -> list[dict[str, Any]]:
    found = []
    for legacy in (False, True):
        state = answer(legacy=legacy)
        state.add(chunk())
        state.finish()
        found.append(
            chat_completion(
                state, **HEAD, reasons=state.reasons(1), usage=TokenUsage(), tier_asked=True
            )
        )
    return found


def streamed_chunks() -> list[Any]:
    found: list[Any] = []
    for legacy in (False, True):
        translator = ChatStreamTranslator(
            **HEAD, answer=answer(legacy=legacy), include_usage=True, tier_asked=True
        )
        sent = translator.chunk(chunk()) + translator.finish()
        sent += translator.end(translator.answer.reasons(1), TokenUsage())
        found += events(sent)
    return found


def text_answers() -> list[Any]:
    state = AnswerState()
    state.add(chunk())
    choices = text_choices(state, {0: "stop"}, 0)
    translator = TextStreamTranslator(**HEAD, include_usage=True)
    sent = translator.chunk(chunk()) + translator.end({0: "stop"}, TokenUsage())
    return [text_completion(choices, **HEAD, usage={}), *events(sent)]


def told(ids: tuple[str, ...], prefix: str = "") -> set[str]:
    return {f"{prefix}{name}" for name, here in rows(ids).items() if here in {"sent", "ours"}}


def assert_told(found: set[str], told_paths: set[str], silent: tuple[str, ...] = ()) -> None:
    """Compare what an answer has with what the document says; not below some paths."""
    shown = {path for path in found if not path.startswith(silent)} if silent else found
    assert shown - told_paths == set()
    assert told_paths - found == set()


MESSAGE_INSIDES = tuple(
    f"{name}{rest}"
    for name, rests in {
        "annotations": ("[]",),
        "tool_calls[]": (".function.", ".custom.", ".extra_content."),
        "function_call": (".",),
        "audio": (".",),
        "images": ("[]",),
        "extra_content": (".",),
    }.items()
    for rest in rests
)


def test_a_whole_answer_has_what_is_said_and_nothing_else() -> None:
    found = {path for each in whole_answers() for path in paths(each)}
    message = "choices[].message."

    assert_told(
        found,
        told(("chat-answer",)) | told(("message",), message) | told(("usage",), "usage."),
        (
            "choices[].logprobs.content[]",
            *(f"{message}{inside}" for inside in MESSAGE_INSIDES),
        ),
    )


def test_chunks_have_what_is_said_and_nothing_else() -> None:
    found = {path for each in streamed_chunks() for path in paths(each)}
    delta = "choices[].delta."
    # Only a refused prompt has a refusal there, and only what rests on sources annotations.
    rare = {f"{delta}refusal", f"{delta}annotations"}
    logprobs = {f"choices[].logprobs.{name}" for name in ("content", "refusal")}

    assert_told(
        found | rare,
        told(("chunk",)) | told(("message",), delta) | told(("usage",), "usage."),
        (
            *logprobs,
            f"{delta}tool_calls[].index",
            *(f"{delta}{inside}" for inside in MESSAGE_INSIDES),
        ),
    )


def test_a_text_completion_has_what_is_said_and_nothing_else() -> None:
    found = {path for each in text_answers() for path in paths(each)}

    assert_told(found, told(("completions-answer",)), ("choices[].logprobs.", "usage."))


def test_embeddings_have_what_is_said_and_nothing_else() -> None:
    body = json.loads(embeddings_body("m", [[1.0]], None, 3))

    assert_told(set(paths(body)), told(("embeddings-answer",)))


def test_unknown_fields_are_named_on_every_route() -> None:
    body = b'{"model":"m","foo":1,"bar":null}'

    for known in (ChatRequest, TextRequest, EmbeddingRequest):
        assert ignored_names(body, known) == ["foo"]
