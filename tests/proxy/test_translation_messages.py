"""Messages as Gemini's contents: sides, runs, and what is left out."""

from typing import Any

import pytest

from support.chats import USER, Json, contents, translate


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (user("x"), {"role": "user", "parts": [{"text": "x"}]}),
        ({"role": "assistant", "content": "x"}, {"role": "model", "parts": [{"text": "x"}]}),
        ({"role": "model", "content": "x"}, {"role": "model", "parts": [{"text": "x"}]}),
        (
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "model", "parts": [{"text": "no"}]},
        ),
        (
            {"role": "assistant", "content": "", "refusal": "no"},
            {"role": "model", "parts": [{"text": "no"}]},
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "model", "parts": [{"text": "no"}]},
        ),
        (
            {"role": "assistant", "content": "x", "reasoning_content": "thoughts"},
            {"role": "model", "parts": [{"text": "x"}]},
        ),
    ],
)
def test_each_role_speaks_for_its_side(message: Json, content: Json) -> None:
    closing = user("bye")

    translated = contents([user("hi"), {"role": "assistant", "content": "-"}, message, closing])

    if content["role"] == "user":
        assert translated[-1]["parts"] == [*content["parts"], {"text": "bye"}]
    else:
        assert translated[-2]["parts"] == [{"text": "-"}, *content["parts"]]


def test_all_instructions_stand_in_one_place_in_their_order() -> None:
    body = translate(
        messages=[
            {"role": "system", "content": "one"},
            USER,
            {"role": "developer", "content": [{"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "x"},
            {"role": "system", "content": "three"},
            USER,
        ]
    ).body

    texts = [part["text"] for part in body["systemInstruction"]["parts"]]
    assert texts == ["one", "two", "three"]
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


@pytest.mark.parametrize("empty", ["", None, [], [{"type": "text", "text": ""}]])
def test_empty_messages_and_texts_are_left_out(empty: Any) -> None:
    messages = [USER, {"role": "assistant", "content": empty}, USER]

    assert contents(messages) == [{"role": "user", "parts": [{"text": "hi"}, {"text": "hi"}]}]
