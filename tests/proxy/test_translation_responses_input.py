"""Bodies of the Responses API that come to the chat endpoint, as Cursor sends them."""

from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.translation.openai_types import JsonSchema, ResponseFormat
from ai_proxy_service.translation.request import parse_chat
from support.chats import FLASH_3, Json, assert_refused, refusal, translate


def body(given: Any, **fields: Any) -> Json:
    return translate(FLASH_3, input=given, **fields).body


def said(role: str, *texts: str) -> Json:
    return {"role": role, "parts": [{"text": text} for text in texts]}


def item(role: str, kind: str, text: str, **fields: Any) -> Json:
    return {"role": role, "content": [{"type": kind, "text": text}], **fields}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, text: Any = "ok") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def roles(translated: Json) -> list[tuple[str, list[str]]]:
    """Return each content's side, and of what kind its parts are."""
    return [
        (content["role"], [next(iter(part)) for part in content["parts"]])
        for content in translated["contents"]
    ]


def test_a_text_is_what_the_user_says() -> None:
    translated = body("hi", instructions="be brief")

    assert translated["contents"] == [said("user", "hi")]
    assert translated["systemInstruction"] == {"parts": [{"text": "be brief"}]}


def test_messages_keep_their_sides_and_instructions_come_first() -> None:
    translated = body(
        [
            {"type": "message", "role": "developer", "content": "in French"},
            {"role": "user", "content": "one"},
            item("user", "input_text", "two", type="message", id="msg_1", status="completed"),
            item("assistant", "output_text", "three", annotations=[]),
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            item("system", "input_text", "short"),
            {"role": "user", "content": "four"},
        ],
        instructions="be brief",
    )

    texts = [part["text"] for part in translated["systemInstruction"]["parts"]]
    assert texts == ["be brief", "in French", "short"]
    assert translated["contents"] == [
        said("user", "one", "two"),
        said("model", "three", "no"),
        said("user", "four"),
    ]


def test_a_run_of_calls_is_one_turn_and_so_are_its_results() -> None:
    translated = body(
        [
            {"role": "user", "content": "hi"},
            item("assistant", "output_text", "let me see"),
            call("a", "f", '{"x":1}'),
            {"type": "reasoning", "id": "rs_1", "summary": []},
            call("b", "g"),
            output("b"),
            output("a", [{"type": "input_text", "text": "7"}]),
            call("c"),
            output("c"),
        ]
    )

    assert roles(translated) == [
        ("user", ["text"]),
        ("model", ["text", "functionCall", "functionCall"]),
        ("user", ["functionResponse", "functionResponse"]),
        ("model", ["functionCall"]),
        ("user", ["functionResponse"]),
    ]
    results = [part["functionResponse"] for part in translated["contents"][2]["parts"]]
    assert results == [
        {"id": "a", "name": "f", "response": {"output": "7"}},
        {"id": "b", "name": "g", "response": {"output": "ok"}},
    ]


def test_custom_tools_calls_are_understood() -> None:
    made = {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "*** Begin"}
    told = {"type": "custom_tool_call_output", "call_id": "a", "output": "done"}

    _, model, user = body([{"role": "user", "content": "x"}, made, told])["contents"]

    assert model["parts"][0]["functionCall"]["args"] == {"input": "*** Begin"}
    assert user["parts"][0]["functionResponse"]["response"] == {"output": "done"}


def test_pictures_and_files_are_understood() -> None:
    content = [
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a"},
        {"type": "input_file", "file_id": "files/abc"},
        {"type": "input_image", "file_id": "files/abc"},
    ]

    (user,) = body([{"role": "user", "content": content}])["contents"]

    kinds = [next(iter(part)) for part in user["parts"]]
    assert kinds == ["inlineData", "inlineData", "fileData", "fileData"]
    assert user["parts"][0]["mediaResolution"] == {"level": "MEDIA_RESOLUTION_HIGH"}


def test_a_body_as_cursor_sends_it_is_a_chat() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    translated = body(
        [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        tools=[
            {"type": "function", "name": "read", "parameters": schema, "strict": False},
            {"type": "function", "function": {"name": "edit", "parameters": schema}},
            {"type": "custom", "name": "patch", "format": {"type": "grammar"}},
        ],
        tool_choice={"type": "function", "name": "read"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=5000,
        stream=True,
        store=False,
        include=["reasoning.encrypted_content"],
        text={"verbosity": "low"},
    )

    (tool,) = translated["tools"]
    assert [f["name"] for f in tool["functionDeclarations"]] == ["read", "edit", "patch"]
    calling = translated["toolConfig"]["functionCallingConfig"]
    assert calling == {"mode": "ANY", "allowedFunctionNames": ["read"]}
    config = translated["generationConfig"]
    assert config["thinkingConfig"] == {"thinkingLevel": "HIGH", "includeThoughts": True}
    assert config["maxOutputTokens"] == 5000


@pytest.mark.parametrize(
    "kind", ["reasoning", "web_search_call", "code_interpreter_call", "item_reference"]
)
def test_what_gemini_could_not_take_back_is_left_out(kind: str) -> None:
    items = [{"type": kind, "id": "rs_1"}, {"role": "user", "content": "hi"}]

    assert body(items)["contents"] == [said("user", "hi")]


@pytest.mark.parametrize("reference", ["msg_1", "fc_1", ""])
def test_a_reference_to_something_said_is_never_lost_silently(reference: str) -> None:
    items = [{"type": "item_reference", "id": reference}, {"role": "user", "content": "hi"}]

    with pytest.raises(InvalidRequestError, match="not persisted") as caught:
        body(items)

    assert (caught.value.status, caught.value.field) == (404, "input")


def test_messages_come_before_an_input() -> None:
    messages = [{"role": "user", "content": "one"}]

    assert body("two", messages=messages)["contents"] == [said("user", "one")]
    assert body("two", messages=None)["contents"] == [said("user", "two")]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ([], "input", "invalid_value"),
        (None, "messages", "missing_required_parameter"),
        (5, "input", "invalid_type"),
        ([5], "input[0]", "invalid_value"),
        ([{"type": "computer_call"}], "input[0].type", "invalid_value"),
        ([{"type": "message", "content": "x"}], "input[0].type", "invalid_value"),
        ([{}], "input[0].type", "invalid_value"),
        ([{"role": 5}], "input[0].role", "invalid_value"),
        (
            [{"role": "user", "content": [{"type": "input_video"}]}],
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            [{"type": "function_call", "name": "f"}],
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (
            [{"type": "function_call", "call_id": "a"}],
            "input[0].name",
            "missing_required_parameter",
        ),
    ],
)
def test_items_that_are_not_as_documented_are_refused(given: Any, param: str, code: str) -> None:
    assert_refused(refusal(FLASH_3, input=given), param, code)


def test_calls_and_results_are_paired_as_in_a_chat() -> None:
    hi = {"role": "user", "content": "hi"}

    assert refusal(FLASH_3, input=[hi, call("a"), hi]).field == "messages"
    assert refusal(FLASH_3, input=[hi, output("a")]).status == 400


def test_the_wanted_form_stands_in_another_place() -> None:
    chat = parse_chat(
        msgspec.json.encode(
            {
                "model": "m",
                "input": "hi",
                "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
            }
        )
    )

    assert chat.response_format == ResponseFormat("json_schema", JsonSchema("x", {}))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"text": {"format": {"type": 1}}}, "text.format"),
    ],
)
def test_what_would_lose_history_or_form_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_chat(msgspec.json.encode({"model": "m", "input": "hi", **fields}))

    assert caught.value.field == param
