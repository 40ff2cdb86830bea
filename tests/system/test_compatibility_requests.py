"""What docs/compatibility.md says of requests is true: each claim is tried on the translation."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.price_catalog import load_catalog
from ai_proxy_service.translation.embeddings import EmbeddingRequest, parse_embeddings
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import (
    Surroundings,
    TranslatedChat,
    ignored_names,
    parse_chat,
    to_gemini,
)
from ai_proxy_service.translation.text_completion import TextRequest, as_chat, parse_text
from service_kit.errors import ServiceError
from support.compatibility import CHAT_SECTIONS, accepted_kinds, claimed
from support.prices import SHIPPED

TEXT_MODEL = "gemini-2.5-flash"
PRICE = load_catalog(SHIPPED, Decimal(1)).models[TEXT_MODEL]
REFUSED_VALUES: dict[str, Any] = {
    "logit_bias": {"50256": -100},
    "previous_response_id": "resp_1",
    "conversation": "conv_1",
    "best_of": 2,
    "echo": True,
    "suffix": "the end",
}
ASKED = [{"role": "user", "content": "Hi"}]


def translated(**fields: Any) -> TranslatedChat:
    """Translate a chat request with these fields."""
    body = {"model": TEXT_MODEL, "messages": ASKED, **fields}
    chat = parse_chat(json.dumps(body).encode())
    return to_gemini(chat, TEXT_MODEL, Surroundings(price=PRICE))


def refused_field(act: Callable[[], Any]) -> str | None:
    """Return the field that a refusal names."""
    with pytest.raises(ServiceError) as refusal:
        act()
    assert refusal.value.status == 400
    return refusal.value.field


@pytest.mark.parametrize("field", claimed("ignored", "chat"))
def test_what_is_ignored_in_a_chat_changes_nothing_and_is_named(field: str) -> None:
    body = {"model": "m", field: {"any": ["thing"]}}

    assert translated(**{field: {"any": ["thing"]}}).body == translated().body
    assert ignored_names(json.dumps(body).encode()) == [field]


@pytest.mark.parametrize("field", claimed("checked", *CHAT_SECTIONS))
def test_what_is_only_checked_changes_nothing_and_is_named(field: str) -> None:
    told = translated(**{field: 0.5})

    assert told.body == translated().body
    assert told.ignored == [field]
    assert refused_field(lambda: translated(**{field: 99})) == field


@pytest.mark.parametrize("field", claimed("refused", *CHAT_SECTIONS))
def test_what_is_refused_in_a_chat_is_a_400_that_names_it(field: str) -> None:
    assert refused_field(lambda: translated(**{field: REFUSED_VALUES[field]})) == field


@pytest.mark.parametrize("field", claimed("refused", "completions"))
def test_what_is_refused_in_a_completion_is_a_400_that_names_it(field: str) -> None:
    body = {"model": "m", "prompt": "x", field: REFUSED_VALUES[field]}

    assert refused_field(lambda: parse_text(json.dumps(body).encode())) == field


@pytest.mark.parametrize("field", claimed("checked", "completions"))
def test_what_is_only_checked_in_a_completion_is_named(field: str) -> None:
    wanted = parse_text(json.dumps({"model": "m", "prompt": "Hi", field: 0.5}).encode())
    told = to_gemini(as_chat(wanted, "Hi"), TEXT_MODEL, Surroundings(price=PRICE))

    assert told.ignored == [field]
    assert told.body == translated().body


def test_tokens_are_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidRequestError, match="check_embedding_ctx_length=False") as refusal:
        parse_embeddings(b'{"model":"m","input":[[1,2]]}')

    assert refusal.value.field == "input"


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
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


def test_the_roles_are_the_ones_that_are_accepted() -> None:
    for messages in CONVERSATIONS.values():
        assert translated(messages=messages).body["contents"]

    assert accepted_kinds("roles") == set(CONVERSATIONS)
    wrong = [{"role": "critic", "content": "x"}]
    assert refused_field(lambda: translated(messages=wrong)) == "messages[0].role"


def test_the_kinds_of_parts_are_the_ones_that_are_accepted() -> None:
    for kind, part in PARTS.items():
        message = {"role": "user", "content": [{"type": kind, **part}]}
        assert len(translated(messages=[message]).body["contents"][0]["parts"]) == 1

    assert accepted_kinds("part-types") == set(PARTS)
    wrong = [{"role": "user", "content": [{"type": "hologram"}]}]
    assert refused_field(lambda: translated(messages=wrong)) == "messages[0].content[0].type"


def test_the_kinds_of_tools_are_the_ones_that_are_accepted() -> None:
    for tool in TOOLS.values():
        assert translated(tools=[tool]).body["tools"]

    assert accepted_kinds("tool-types") == set(TOOLS)
    assert refused_field(lambda: translated(tools=[{"type": "mcp"}])) == "tools[0].type"


def test_the_forms_of_tool_choice_are_the_ones_that_are_accepted() -> None:
    for choice in CHOICES.values():
        body = translated(tools=[FUNCTION, CUSTOM], tool_choice=choice).body
        assert body["toolConfig"]["functionCallingConfig"]["mode"] in {"NONE", "AUTO", "ANY"}

    assert accepted_kinds("tool-choice") == set(CHOICES)


@pytest.mark.parametrize("wrong", ["maybe", {"type": "hosted"}])
def test_any_other_tool_choice_is_refused(wrong: Any) -> None:
    refused = refused_field(lambda: translated(tools=[FUNCTION], tool_choice=wrong))

    assert refused == "tool_choice"


def test_the_response_formats_are_the_ones_that_are_accepted() -> None:
    for kind, more in FORMATS.items():
        config = translated(response_format={"type": kind, **more}).body["generationConfig"]
        assert ("responseMimeType" in config) == (kind != "text")

    assert accepted_kinds("response-formats") == set(FORMATS)
    wrong = {"type": "xml"}
    assert refused_field(lambda: translated(response_format=wrong)) == "response_format.type"


def test_unknown_fields_are_named_on_every_route() -> None:
    body = b'{"model":"m","foo":1,"bar":null}'

    for known in (ChatRequest, TextRequest, EmbeddingRequest):
        assert ignored_names(body, known) == ["foo"]
