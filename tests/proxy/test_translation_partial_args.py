"""Calls that come in pieces, as Vertex AI sends them when it is asked to stream arguments."""

import json
from typing import Any

import pytest

from support.chats import Json, chunk, deltas, finishes, message, streamed

STOP = chunk(finish="STOP")


def piece(*partial: Json, **fields: Any) -> Json:
    """Return a part with a piece of a call."""
    return {"functionCall": {"partialArgs": list(partial), **fields}}


def text(path: str, value: str, **fields: Any) -> Json:
    return {"jsonPath": path, "stringValue": value, **fields}


def arguments(*partial: Json) -> Any:
    """Return the arguments that pieces of one call make."""
    pieces = [chunk(piece(item, willContinue=True)) for item in partial]
    begin = chunk({"functionCall": {"name": "f", "id": "1", "willContinue": True}})

    answer = message(begin, *pieces, chunk({"functionCall": {}}), STOP)

    (call,) = answer["tool_calls"]
    assert call["function"]["name"] == "f"
    return json.loads(call["function"]["arguments"])


@pytest.mark.parametrize(
    ("partial", "whole"),
    [
        ([], {}),
        ([text("$.city", "Par"), text("$.city", "is")], {"city": "Paris"}),
        (
            [{"jsonPath": "$.n", "numberValue": 7}, {"jsonPath": "$.x", "numberValue": 0.5}],
            {"n": 7, "x": 0.5},
        ),
        (
            [{"jsonPath": "$.a", "boolValue": True}, {"jsonPath": "$.b", "boolValue": False}],
            {"a": True, "b": False},
        ),
        ([{"jsonPath": "$.a", "nullValue": "NULL_VALUE"}], {"a": None}),
        (
            [
                text("$.items[0].name", "x"),
                text("$.items[1].name", "y"),
                text("$.items[0].name", "!"),
            ],
            {"items": [{"name": "x!"}, {"name": "y"}]},
        ),
        ([text("$.a[1]", "x")], {"a": [None, "x"]}),
        ([text("$['odd key']['b.c']", "x")], {"odd key": {"b.c": "x"}}),
        ([text('$["odd key"]', "x")], {"odd key": "x"}),
        # What leads nowhere, or would take all memory, is left out.
        ([text("", "x"), text("$", "x"), text("$[0]", "x")], {}),
        ([text("$.a", "x"), text("$.a.b", "y")], {"a": "x"}),
        ([text("$.a[99999999999]", "x")], {"a": []}),
    ],
)
def test_pieces_are_put_together_at_their_places(partial: list[Json], whole: Json) -> None:
    assert arguments(*partial) == whole


def test_a_call_in_pieces_is_told_once_it_is_whole_with_its_signature() -> None:
    chunks = [
        chunk(
            {
                "functionCall": {"name": "f", "id": "1", "willContinue": True},
                "thoughtSignature": "sig",
            }
        ),
        chunk(piece(text("$.a", "x"), willContinue=True)),
        chunk(piece(text("$.a", "y"))),
        STOP,
    ]

    found = streamed(*chunks)

    (told,) = [delta["tool_calls"][0] for delta in deltas(found) if "tool_calls" in delta]
    assert told["function"] == {"name": "f", "arguments": '{"a":"xy"}'}
    assert told["extra_content"]["google"]["thought_signature"] == "sig"
    assert finishes(found) == [(0, "tool_calls")]


def test_calls_in_pieces_follow_each_other() -> None:
    chunks = [
        chunk(piece(text("$.a", "1"), name="f", willContinue=True)),
        chunk({"functionCall": {}}),
        chunk(piece(text("$.b", "2"), name="g", willContinue=True)),
        chunk({"functionCall": {}}, finish="STOP"),
    ]

    calls = message(*chunks)["tool_calls"]

    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": '{"a":"1"}'},
        {"name": "g", "arguments": '{"b":"2"}'},
    ]


def test_pieces_in_one_chunk_make_a_whole_call() -> None:
    (call,) = message(chunk(piece(text("$.a", "1"), name="f"), finish="STOP"))["tool_calls"]

    assert call["function"] == {"name": "f", "arguments": '{"a":"1"}'}


def test_a_piece_that_belongs_to_no_call_is_nothing() -> None:
    answer = message(chunk(piece(text("$.a", "1")), {"text": "x"}, finish="STOP"))

    assert "tool_calls" not in answer
