"""Whole answers and streams alike: what each of Gemini's parts adds, and which calls are told."""

from itertools import pairwise
from typing import Any

import pytest

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.remembered import Remembered, decode_remembered
from support.chats import (
    Json,
    candidate,
    chunk,
    deltas,
    function_call,
    gemini,
    message,
    streamed,
    toolbox,
    translate,
    whole,
)

STOP = chunk(finish="STOP")
CODE = {"executableCode": {"language": "PYTHON", "code": "print(1)", "id": "x"}}
PRINTED = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n", "id": "x"}}
ANSWERED = {"functionResponse": {"name": "f", "response": {"output": "x"}}}


def joined(found: list[Json], name: str) -> str:
    return "".join(delta.get(name) or "" for delta in found)


def told_calls(*chunks: GenerateContentResponse, **options: Any) -> list[Json]:
    """Return the calls of an answer, the same in a stream as in a whole one."""
    calls: list[Json] = message(*chunks, **options).get("tool_calls", [])
    pieces = [
        item
        for delta in deltas(streamed(*chunks, **options))
        for item in delta.get("tool_calls", ())
    ]
    assert [piece.pop("index") for piece in pieces] == list(range(len(calls)))
    for call, piece in zip(calls, pieces, strict=True):
        # Ids that are made up differ each time.
        assert {**call, "id": ""} == {**piece, "id": ""}
    return calls


@pytest.mark.parametrize(
    ("parts", "content", "reasoning"),
    [
        ([{"text": "a"}, {"text": "b"}], "ab", ""),
        ([{"text": "hm", "thought": True}, {"text": "so", "thought": True}], "", "hmso"),
        ([{"text": "hm", "thought": True}, {"text": "42"}], "42", "hm"),
        ([{"text": ""}], "", ""),
        ([{"thoughtSignature": "s"}], "", ""),
        ([{"text": "", "thought": True}], "", ""),
        ([{}], "", ""),
        ([{"text": 'a\u2028b \U0001f600 "\\'}], 'a\u2028b \U0001f600 "\\', ""),
        ([CODE], "```python\nprint(1)\n```\n", ""),
        ([{"text": "x"}, CODE, PRINTED, {"text": "y"}],
         "x\n```python\nprint(1)\n```\n```\n1\n```\ny", ""),
        ([{"executableCode": {"language": 0, "code": "x"}}], "```python\nx\n```\n", ""),
        ([{"inlineData": {"mimeType": "image/png", "data": "AA"}, "thought": True}], "", ""),
        ([{"unheardOf": {"x": 1}}, {"text": "a"}], "a", ""),
    ],
)  # fmt: skip
def test_each_part_adds_its_own(parts: list[Json], content: str, reasoning: str) -> None:
    chunks = [chunk(*parts), STOP]
    whole_message, found = message(*chunks), deltas(streamed(*chunks))

    assert whole_message["content"] == content == joined(found, "content")
    assert whole_message.get("reasoning_content", "") == reasoning
    assert joined(found, "reasoning_content") == reasoning
    assert "tool_calls" not in whole_message


@pytest.mark.parametrize(
    "odd",
    [
        {"finishReason": "STOP"},
        {"content": {}, "finishReason": "STOP"},
        {"content": {"role": "model"}, "finishReason": "STOP"},
        {"content": None, "finishReason": "STOP", "index": None},
    ],
)
def test_candidates_may_lack_nearly_everything(odd: Json) -> None:
    assert whole(chunk({"text": "x"}), gemini([odd]))["choices"][0]["finish_reason"] == "stop"


def test_a_call_is_told_with_its_name_its_arguments_and_what_belongs_to_it() -> None:
    (call,) = told_calls(
        chunk(function_call("f", {"a": "é"}, id="x1", thoughtSignature="sig"), finish="STOP")
    )

    assert call == {
        "id": "x1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":"é"}'},
        "extra_content": {"google": {"thought_signature": "sig"}},
    }


@pytest.mark.parametrize("given", [{"functionCall": {"name": "f"}}, function_call("f", {})])
def test_a_call_without_arguments_has_an_empty_object(given: Json) -> None:
    (call,) = told_calls(chunk(given, finish="STOP"))

    assert call["function"]["arguments"] == "{}"
    assert "extra_content" not in call


def test_only_the_call_that_was_signed_shows_a_signature() -> None:
    first, second = told_calls(
        chunk(function_call("f", id="1", thoughtSignature="sig"), function_call("g", id="2")), STOP
    )

    assert first["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert "extra_content" not in second


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(function_call("f"), function_call("g"), finish="STOP")],
        [chunk(function_call("f")), chunk(function_call("g")), STOP],
        [chunk(function_call("f"), {"text": "x"}), chunk({"text": "y"}, function_call("g")), STOP],
        [chunk(function_call("f"), finish="STOP"), chunk(function_call("g"), finish="STOP")],
    ],
)
def test_calls_side_by_side_are_numbered_from_0_and_told_apart(
    chunks: list[GenerateContentResponse],
) -> None:
    calls = told_calls(*chunks)

    assert [call["function"]["name"] for call in calls] == ["f", "g"]
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["a", "b"], ["a", "b"]),
        (["a" * 64], ["a" * 64]),
        (["a" * 65], [None]),
        (["a", "a"], ["a", None]),
        (["", None], [None, None]),
        (["x__thought__" + "s" * 100], [None]),
    ],
)
def test_ids_are_geminis_own_where_a_client_can_use_them(
    given: list[str | None], kept: list[str | None]
) -> None:
    parts = [function_call("f", None, **({} if one is None else {"id": one})) for one in given]

    ids = [call["id"] for call in told_calls(chunk(*parts, finish="STOP"))]

    assert len(set(ids)) == len(given)
    for got, own in zip(ids, kept, strict=True):
        if own is not None:
            assert got == own
        else:
            prefix, _, digits = got.partition("_")
            assert (prefix, len(digits)) == ("call", 24)
            assert int(digits, 16) >= 0


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(function_call("f"), ANSWERED, {"text": "done"}, finish="STOP")],
        [chunk(function_call("f"), finish="STOP"), chunk(ANSWERED, {"text": "done"}), STOP],
        [chunk(function_call("f")), chunk(ANSWERED), chunk({"text": "done"}, finish="STOP")],
    ],
)
def test_calls_that_googles_servers_have_answered_are_not_the_clients(
    chunks: list[GenerateContentResponse],
) -> None:
    """Recorded with MCP on Google's side: a finish, a result and text follow the call."""
    answer = whole(*chunks)["choices"][0]

    assert (answer["message"]["content"], answer["finish_reason"]) == ("done", "stop")
    assert told_calls(*chunks) == []


def test_only_the_answered_one_of_two_calls_is_withheld() -> None:
    (call,) = told_calls(
        chunk(function_call("f", thoughtSignature="s"), function_call("g", id="2")),
        chunk(ANSWERED),
        STOP,
    )

    assert call["function"]["name"] == "g"


def test_at_most_one_call_is_told_where_the_client_wants_no_more() -> None:
    (call,) = told_calls(
        chunk(function_call("f"), function_call("g")), chunk(function_call("h")), STOP,
        one_call=True,
    )  # fmt: skip

    assert call["function"]["name"] == "f"


def test_a_custom_tools_call_is_told_as_text() -> None:
    tools = translate(tools=[{"type": "custom", "custom": {"name": "sh"}}]).toolbox

    calls = told_calls(
        chunk(function_call("sh", {"input": "ls"}, id="1"), function_call("sh", {}, id="2")),
        STOP,
        tools=tools,
    )

    assert [(call["type"], call["custom"]) for call in calls] == [
        ("custom", {"name": "sh", "input": "ls"}),
        ("custom", {"name": "sh", "input": ""}),
    ]


def test_calls_are_told_in_the_old_form_where_functions_were_given_so() -> None:
    tools = toolbox("f", legacy=True)
    chunks = [chunk(function_call("f", {"a": 1}), finish="STOP")]

    choice = whole(*chunks, tools=tools, one_call=True)["choices"][0]
    found = deltas(streamed(*chunks, tools=tools, one_call=True))

    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]
    assert found[1:] == [{"function_call": {"name": "f", "arguments": '{"a":1}'}}]


SERVER = [
    {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s"}, "thoughtSignature": "a"},
    {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s"}, "thoughtSignature": "b"},
]


def test_googles_own_tools_calls_travel_with_the_call_after_them() -> None:
    chunks = [
        chunk(*SERVER),
        chunk(function_call("f", id="1", thoughtSignature="sig"), function_call("g", id="2")),
        STOP,
    ]

    first, second = told_calls(*chunks)

    assert first["extra_content"]["google"]["thought_signature"] == "sig"
    assert first["extra_content"]["google"]["preceding_parts"] == SERVER
    assert "extra_content" not in second


def test_what_belongs_to_calls_is_remembered_by_the_ids_that_clients_see() -> None:
    answer = AnswerState()
    answer.add(chunk(*SERVER, function_call("f", thoughtSignature="sig"), function_call("g")))
    answer.finish()

    first, second = answer.candidates[0].calls
    kept = answer.remembered()
    assert kept.keys() == {first.call_id}
    assert second.call_id not in kept
    assert decode_remembered(kept[first.call_id]) == Remembered("sig", SERVER)


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "x", "thoughtSignature": "sig"}],
        [{"text": "x"}, {"text": "", "thoughtSignature": "sig"}],
        [{"text": "x"}, {"thoughtSignature": "sig"}],
    ],
)
def test_the_signature_of_a_text_is_told_once(parts: list[Json]) -> None:
    extra = {"google": {"thought_signature": "sig"}}
    chunks = [*(chunk(part) for part in parts), STOP]

    found = deltas(streamed(*chunks))

    assert message(*chunks)["extra_content"] == extra
    assert [delta["extra_content"] for delta in found if "extra_content" in delta] == [extra]


def test_answers_side_by_side_are_kept_apart() -> None:
    chunks = [
        gemini([candidate({"text": "b1"}, index=1), candidate({"text": "a1"})]),
        gemini([candidate(function_call("f"), index=1, finish="STOP")]),
        gemini([candidate({"text": "a2"}, finish="MAX_TOKENS", index=0)]),
    ]

    first, second = whole(*chunks, choices=2)["choices"]

    assert (first["index"], first["message"]["content"]) == (0, "a1a2")
    assert (second["index"], second["message"]["content"]) == (1, "b1")
    assert [first["finish_reason"], second["finish_reason"]] == ["length", "tool_calls"]


def test_a_chunk_costs_what_it_brings_not_what_came_before() -> None:
    """What was taken is never looked at again: the pieces of each chunk are its own."""
    answer = AnswerState()

    counts = [len(answer.add(chunk({"text": str(number)}))) for number in range(2_000)]

    assert all(later == earlier == 1 for earlier, later in pairwise(counts))
    assert "".join(answer.candidates[0].contents) == "".join(map(str, range(2_000)))
