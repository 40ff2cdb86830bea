"""Thought signatures on their way back to Gemini, from wherever they can be had."""

from typing import Any

import msgspec
import pytest

from ai_proxy_service.translation.messages import lost_call_ids
from ai_proxy_service.translation.openai_types import Message
from ai_proxy_service.translation.remembered import SENTINEL, Remembered
from ai_proxy_service.translation.request import TranslatedChat
from support.chats import FLASH_2, FLASH_3, USER, Json, call, calls, result, signed, translate

SERVER_CALL = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s1"}, "thoughtSignature": "ss"}
SERVER_RESPONSE = {"toolResponse": {"id": "s1"}, "thoughtSignature": "sr"}


def signatures(body: Json) -> list[list[str | None]]:
    """Return the signatures on the calls, step by step."""
    steps = [
        [part.get("thoughtSignature") for part in content["parts"] if "functionCall" in part]
        for content in body["contents"]
    ]
    return [step for step in steps if step]


def asked(*of_message: Json, model: str = FLASH_3, **options: Any) -> TranslatedChat:
    """Translate a conversation with one step of calls."""
    results = [result(made["id"]) for made in of_message]
    return translate(model, messages=[USER, calls(*of_message), *results], **options)


@pytest.mark.parametrize(
    ("extra", "known", "signature"),
    [
        (signed("own"), {"a": Remembered("kept")}, "own"),
        ({}, {"a": Remembered("kept")}, "kept"),
        ({}, {}, SENTINEL),
        ({"extra_content": None}, {"a": Remembered("kept")}, "kept"),
        ({"extra_content": {"google": {}}}, {}, SENTINEL),
        ({"extra_content": {"google": {"thought_signature": 5}}}, {}, SENTINEL),
        ({"extra_content": "x"}, {}, SENTINEL),
        ({"extra_content": {"google": []}}, {}, SENTINEL),
    ],
)
def test_a_signature_comes_from_the_client_or_from_memory_or_is_a_placeholder(
    extra: Json, known: dict[str, Remembered], signature: str
) -> None:
    translated = asked(call("a", **extra), known=known)

    assert signatures(translated.body) == [[signature]]
    assert translated.signed is (signature != SENTINEL)


def test_only_the_first_call_of_each_step_needs_one() -> None:
    messages = [
        USER,
        calls(call("a"), call("b")),
        *(result("a"), result("b")),
        calls(call("c", **signed("sig")), call("d")),
        *(result("c"), result("d")),
        USER,
        calls(call("e")),
        result("e"),
    ]

    body = translate(FLASH_3, messages=messages).body

    assert signatures(body) == [[SENTINEL, None], ["sig", None], [SENTINEL]]


def test_what_the_client_sends_stays_on_its_own_call() -> None:
    translated = asked(call("a"), call("b", **signed("second")))

    assert signatures(translated.body) == [[SENTINEL, "second"]]


def test_models_before_gemini_3_get_no_placeholder_but_keep_their_own() -> None:
    assert signatures(asked(call("a"), model=FLASH_2).body) == [[None]]
    assert signatures(asked(call("a", **signed("s")), model=FLASH_2).body) == [["s"]]


def test_memory_that_can_not_be_read_knows_nothing() -> None:
    class Torn(Remembered):
        def encode(self) -> bytes:
            return b"\xff{"

    assert signatures(asked(call("a"), known={"a": Torn("x")}).body) == [[SENTINEL]]


def test_a_texts_signature_goes_back_on_its_last_part() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    answer = {"role": "assistant", "content": content, **signed("sig")}

    translated = translate(FLASH_3, messages=[USER, answer, USER])

    assert translated.body["contents"][1]["parts"] == [
        {"text": "a"},
        {"text": "b", "thoughtSignature": "sig"},
    ]
    assert translated.signed


@pytest.mark.parametrize("by_memory", [True, False])
def test_calls_of_googles_own_tools_stand_before_the_call_again(*, by_memory: bool) -> None:
    before = [SERVER_CALL, SERVER_RESPONSE]
    google = {"thought_signature": "sig", "preceding_parts": [*before, {"text": "forged"}]}
    made = call("a") if by_memory else call("a", extra_content={"google": google})
    known = {"a": Remembered("sig", [dict(part) for part in before])} if by_memory else {}

    parts = asked(made, known=known).body["contents"][1]["parts"]

    assert parts[:2] == before
    assert parts[2]["thoughtSignature"] == "sig"
    assert len(parts) == 3


def test_all_signatures_can_be_replaced_without_touching_the_first_body() -> None:
    google = {"thought_signature": "sig", "preceding_parts": [SERVER_CALL, SERVER_RESPONSE]}
    text = {"role": "assistant", "content": "x", **signed("text")}
    step = calls(call("a", extra_content={"google": google}), call("b"))
    messages = [USER, text, USER, step, result("a"), result("b")]
    translated = translate(FLASH_3, messages=messages)

    replaced = translated.without_signatures()

    assert replaced["contents"][1]["parts"] == [{"text": "x"}]
    assert signatures(replaced) == [[SENTINEL, None]]
    assert [list(part) for part in replaced["contents"][3]["parts"]] == [
        ["functionCall", "thoughtSignature"],
        ["functionCall"],
    ]
    assert signatures(translated.body) == [["sig", None]]
    assert translated.body["contents"][1]["parts"][0]["thoughtSignature"] == "text"


def test_only_steps_of_which_nothing_came_back_are_looked_up() -> None:
    messages: list[Json] = [
        USER,
        calls(call("a"), call("b")),
        *(result("a"), result("b")),
        calls(call("c", **signed("sig")), call("d")),
        *(result("c"), result("d")),
        calls(call("e", extra_content={"google": {}})),
    ]

    assert lost_call_ids(msgspec.convert(messages, list[Message])) == ["a", "b", "e"]


def test_a_call_of_yesterdays_unknown_name_is_renamed_as_if_it_were_declared() -> None:
    parts = asked(call("a", "2fa")).body["contents"][1]["parts"]

    assert parts[0]["functionCall"]["name"] == "_2fa"


def test_what_is_remembered_of_a_call_survives_being_kept_and_being_shown() -> None:
    whole = Remembered("sig", [SERVER_CALL])

    assert whole.extra_content() == {
        "google": {"thought_signature": "sig", "preceding_parts": [SERVER_CALL]}
    }
    assert signatures(asked(call("a"), known={"a": whole}).body) == [["sig"]]
    assert not Remembered()
