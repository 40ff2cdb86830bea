"""Calls and their results: paired, in order, and refused where they don't fit."""

import json
from typing import Any

import pytest

from ai_proxy_service.translation.remembered import Remembered
from support.chats import (
    FLASH_2,
    FLASH_3,
    USER,
    Json,
    assert_refused,
    call,
    calls,
    contents,
    refusal,
    result,
    signed,
)

HI = {"role": "user", "parts": [{"text": "hi"}]}


def called(call_id: str, name: str = "f", **args: Any) -> Json:
    return {"functionCall": {"id": call_id, "name": name, "args": args}}


def answered(call_id: str, response: Json, name: str = "f") -> Json:
    return {"functionResponse": {"id": call_id, "name": name, "response": response}}


def test_calls_and_results_keep_their_order_and_their_ids() -> None:
    messages = [
        USER,
        calls(call("a", "f", '{"x":1}'), call("b", "g"), call("c", "f"), content="let me see"),
        result("c", "3"),
        result("a", '{"deg":7}'),
        result("b", [{"type": "text", "text": "2"}, {"type": "text", "text": "0"}]),
        {"role": "user", "content": "thanks"},
    ]

    assert contents(messages) == [
        HI,
        {
            "role": "model",
            "parts": [
                {"text": "let me see"},
                called("a", "f", x=1),
                called("b", "g"),
                called("c", "f"),
            ],
        },
        {
            "role": "user",
            "parts": [
                answered("a", {"deg": 7}),
                answered("b", {"output": "20"}, "g"),
                answered("c", {"output": "3"}),
            ],
        },
        # Text beside results would begin a new turn.
        {"role": "user", "parts": [{"text": "thanks"}]},
    ]


def test_an_id_belongs_to_the_nearest_message_before_its_result() -> None:
    step = [
        *(calls(call("1", "f")), result("1", "first")),
        *(calls(call("1", "g")), result("1", "second")),
    ]

    translated = contents([USER, *step])

    assert translated[2]["parts"] == [answered("1", {"output": "first"}, "f")]
    assert translated[4]["parts"] == [answered("1", {"output": "second"}, "g")]


def test_two_calls_of_one_id_get_a_result_each() -> None:
    messages = [USER, calls(call("1", "f"), call("1", "g")), result("1", "x"), result("1", "y")]

    assert contents(messages)[2]["parts"] == [
        answered("1", {"output": "x"}, "f"),
        answered("1", {"output": "y"}, "g"),
    ]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("plain", {"output": "plain"}),
        ("", {"output": ""}),
        (None, {"output": ""}),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        (' {"a": 1}\n', {"a": 1}),
        ("{}", {}),
        ("[1, 2]", {"output": "[1, 2]"}),
        ("3.5", {"output": "3.5"}),
        ("null", {"output": "null"}),
        ("{broken", {"output": "{broken"}),
        ('{"error": "no such city"}', {"error": "no such city"}),
        ('{"$ref": "#/$defs/x"}', {"output": '{"$ref": "#/$defs/x"}'}),
        ('{"a": {"$defs": {}}}', {"output": '{"a": {"$defs": {}}}'}),
        ("{" * 100_000, {"output": "{" * 100_000}),
    ],
)
def test_a_result_is_an_object_of_its_own_or_a_text(text: str | None, response: Json) -> None:
    translated = contents([USER, calls(call("a")), result("a", text)])

    assert translated[2]["parts"] == [answered("a", response)]


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        ("  ", {}),
        (None, {}),
        ("null", {}),
        ("{}", {}),
        ('{"a":"é\\n"}', {"a": "é\n"}),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_arguments_become_an_object(arguments: Any, args: Json) -> None:
    made = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}

    assert contents([USER, calls(made), result("a")])[1]["parts"] == [called("a", "f", **args)]


@pytest.mark.parametrize("arguments", ["{", "[1]", "7", '"x"', "{'a': 1}", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    error = refusal(messages=[USER, calls(call("z"), call("a", arguments=arguments)), result("a")])

    assert_refused(error, "messages[1].tool_calls[1].function.arguments")


def test_the_old_form_is_paired_by_name() -> None:
    messages = [
        USER,
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "f", "arguments": '{"x":1}'},
        },
        {"role": "function", "name": "f", "content": "7"},
    ]

    assert contents(messages)[1:] == [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"x": 1}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"output": "7"}}}],
        },
    ]


def test_a_custom_tools_call_has_its_text_as_the_only_argument() -> None:
    made = {"id": "a", "type": "custom", "custom": {"name": "run", "input": "ls"}}

    translated = contents([USER, calls(made), result("a")])

    assert translated[1]["parts"] == [called("a", "run", input="ls")]
    assert translated[2]["parts"] == [answered("a", {"output": "ok"}, "run")]


MISSING = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'."
)


@pytest.mark.parametrize(
    "messages",
    [
        [calls(call("a")), USER],
        [calls(call("a"))],
        [calls(call("a"), call("b")), result("b"), USER],
        [calls(call("a")), calls(call("b")), result("a"), result("b")],
        [calls(call("a")), {"role": "system", "content": "x"}, result("a")],
    ],
)
def test_a_call_without_its_result_is_refused_in_openais_words(messages: list[Json]) -> None:
    error = refusal(messages=[USER, *messages])

    assert_refused(error, "messages")
    assert error.message.startswith(MISSING)
    assert "a" in error.message.removeprefix(MISSING)


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([USER, result("a")], "messages[1].tool_call_id", "invalid_value"),
        (
            [USER, calls(call("a")), result("b")],
            "messages[2].tool_call_id",
            "invalid_value",
        ),
        # The id of an earlier turn is none of this one.
        (
            [USER, calls(call("a")), result("a"), USER, calls(call("b")), result("a")],
            "messages[5].tool_call_id",
            "invalid_value",
        ),
        # Gemini wants as many results as calls, and a dropped one would change the answer.
        (
            [USER, calls(call("a")), result("a", "1"), result("a", "2")],
            "messages[3].tool_call_id",
            "invalid_value",
        ),
        (
            [USER, calls(call("a")), {"role": "tool", "content": "x"}],
            "messages[2].tool_call_id",
            "missing_required_parameter",
        ),
        (
            [USER, {"role": "function", "content": "x"}],
            "messages[1].name",
            "missing_required_parameter",
        ),
        ([USER, calls({"id": "a"})], "messages[1].tool_calls[0].function", None),
        ([USER, calls({"function": {"name": "f"}})], "messages[1].tool_calls[0].id", None),
    ],
)
def test_a_broken_pair_is_refused_where_it_is(
    messages: list[Json], param: str, code: str | None
) -> None:
    assert_refused(refusal(messages=messages), param, code or "missing_required_parameter")


def test_a_history_cut_before_a_call_begins_with_somebodys_words() -> None:
    translated = contents([calls(call("a")), result("a"), USER])

    assert [content["role"] for content in translated] == ["user", "model", "user", "user"]
    assert translated[0]["parts"][0]["text"]
    assert translated[1]["parts"] == [called("a")]


def test_pictures_in_a_result_are_for_gemini_3_and_no_more_than_it_takes_there() -> None:
    url = "data:image/png;base64,AAAA"
    content = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    messages = [USER, calls(call("a")), result("a", content)]

    (part,) = contents(messages, FLASH_3)[2]["parts"]
    assert part["functionResponse"]["response"] == {"output": "see"}
    assert part["functionResponse"]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    ]
    assert_refused(refusal(FLASH_2, messages=messages), "messages[2].content")


def test_what_sdks_echo_in_calls_is_ignored() -> None:
    made = call("a", index=0, parsed_arguments={"x": 1}, extra_content=None)
    echoed = calls(made, parsed=None, audio=None, annotations=[], refusal=None, function_call=None)

    assert contents([USER, echoed, result("a")])[1]["parts"] == [called("a")]


def test_a_long_conversation_is_translated_in_one_pass() -> None:
    """Each message is looked at once: ten times as many have ten times as many parts."""
    messages = [USER]
    for number in range(200):
        messages += [
            calls(call(f"call_{number}", "f", json.dumps({"n": number})), **signed("c2ln")),
            result(f"call_{number}", "x" * 5_000),
        ]

    translated = contents(messages, FLASH_3, known={"call_7": Remembered("bWVt")})

    assert len(translated) == 401
    assert translated[-1]["parts"] == [answered("call_199", {"output": "x" * 5_000})]
