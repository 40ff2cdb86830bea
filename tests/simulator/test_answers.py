"""Answers are made from the request, and their counts add up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_simulator.tokens import count_tokens, split_tokens
from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, parts, text_of

MODELS = ["gemini-2.0-flash", FLASH_25, "gemini-2.5-pro", FLASH_3]


def check_usage(usage: dict[str, Any]) -> None:
    assert usage["totalTokenCount"] == (
        usage["promptTokenCount"]
        + usage.get("candidatesTokenCount", 0)
        + usage.get("thoughtsTokenCount", 0)
        + usage.get("toolUsePromptTokenCount", 0)
    )
    assert usage["promptTokenCount"] == sum(
        entry["tokenCount"] for entry in usage["promptTokensDetails"]
    )


@given(st.text())
def test_tokens_give_the_text_back_and_are_never_more_than_its_bytes(text: str) -> None:
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert len(tokens) <= len(text.encode(errors="surrogatepass"))


@given(st.text(), st.integers(min_value=0, max_value=20))
def test_the_first_tokens_of_a_text_joined_are_as_many_tokens(text: str, count: int) -> None:
    first = split_tokens(text)[:count]
    assert split_tokens("".join(first)) == first


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_refers_to_the_last_user_text(gemini: WireClient, model: str) -> None:
    answer = gemini.generate(body("The harbour is crimson"), model)
    assert "The harbour is crimson" in text_of([answer])
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert answer["modelVersion"] == model
    check_usage(answer["usageMetadata"])


@pytest.mark.parametrize("model", MODELS)
def test_the_tokens_of_a_stream_are_those_it_reports(gemini: WireClient, model: str) -> None:
    chunks = gemini.stream(body("Count me [[sim tokens=37]]"), model)
    carried = [chunk for chunk in chunks if text_of([chunk])]
    assert len(carried) == 37
    assert all(count_tokens(text_of([chunk])) == 1 for chunk in carried)
    usages = [chunk["usageMetadata"] for chunk in chunks]
    for usage in usages:
        check_usage(usage)
    counts = [usage.get("candidatesTokenCount", 0) for usage in usages]
    assert counts == sorted(counts)
    assert counts[-1] == 37
    assert len({chunk["responseId"] for chunk in chunks}) == 1
    assert [("finishReason" in c["candidates"][0]) for c in chunks].count(True) == 1
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


def test_stream_and_whole_response_say_the_same(gemini: WireClient) -> None:
    request = body("Say it twice")
    streamed, whole = gemini.stream(request), gemini.generate(request)
    assert text_of(streamed) == text_of([whole])
    assert streamed[-1]["usageMetadata"] == whole["usageMetadata"]


@pytest.mark.parametrize("text", ["Hello, world!", "línea — 日本語 🙂", "x" * 500, "1234 {}[]"])
def test_count_tokens_agrees_with_the_prompt_count(gemini: WireClient, text: str) -> None:
    request = body(text)
    counted = gemini.post("countTokens", request).json()
    usage = gemini.generate(request)["usageMetadata"]
    assert counted["totalTokens"] == usage["promptTokenCount"]
    assert counted["promptTokensDetails"] == usage["promptTokensDetails"]


def test_count_tokens_takes_a_whole_request(gemini: WireClient) -> None:
    request = body("Hello", systemInstruction={"parts": {"text": "Be brief."}})
    counted = gemini.post("countTokens", {"generateContentRequest": request}).json()
    assert counted["totalTokens"] == gemini.generate(request)["usageMetadata"]["promptTokenCount"]


def test_the_output_limit_includes_thinking(gemini: WireClient) -> None:
    """With 20 tokens, 12 of them thoughts, 8 are left for text."""
    config = {"maxOutputTokens": 20}
    chunks = gemini.stream(body("[[sim thoughts=12 tokens=50]]", generationConfig=config))
    usage = chunks[-1]["usageMetadata"]
    assert (usage["thoughtsTokenCount"], usage["candidatesTokenCount"]) == (12, 8)
    assert chunks[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_thinking_that_uses_up_the_limit_leaves_no_parts(gemini: WireClient) -> None:
    answer = gemini.generate(body("Hi", generationConfig={"maxOutputTokens": 5}), "gemini-2.5-pro")
    assert answer["candidates"] == [
        {"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}
    ]
    assert "candidatesTokenCount" not in answer["usageMetadata"]
    assert answer["usageMetadata"]["thoughtsTokenCount"] == 5


def test_a_stop_sequence_ends_the_text_before_it(gemini: WireClient) -> None:
    config = {"stopSequences": ["never there", " crimson"]}
    answer = gemini.generate(body("The harbour is crimson", generationConfig=config))
    assert text_of([answer]) == 'You said: "The harbour is'
    assert answer["candidates"][0]["finishReason"] == "STOP"


def test_candidates_are_alternatives_with_their_own_index(gemini: WireClient) -> None:
    config = {"candidateCount": 3}
    answer = gemini.generate(body("Choose", generationConfig=config))
    texts = [text_of([answer], index) for index in range(3)]
    assert len(set(texts)) == 3
    assert answer["usageMetadata"]["candidatesTokenCount"] == sum(map(count_tokens, texts))
    chunks = gemini.stream(body("Choose", generationConfig=config))
    assert [text_of(chunks, index) for index in range(3)] == texts


@pytest.mark.parametrize(("model", "signed"), [(FLASH_25, False), (FLASH_3, True)])
def test_thoughts_are_shown_only_on_request(gemini: WireClient, model: str, signed: bool) -> None:
    hidden = gemini.stream(body("Think"), model)
    assert not any(part.get("thought") for chunk in hidden for part in parts(chunk))
    assert hidden[-1]["usageMetadata"]["thoughtsTokenCount"] > 0
    config = {"thinkingConfig": {"includeThoughts": True}}
    shown = gemini.stream(body("Think", generationConfig=config), model)
    thoughts = [any(part.get("thought") for part in parts(chunk)) for chunk in shown]
    assert thoughts == sorted(thoughts, reverse=True)
    assert thoughts[0]
    assert text_of(shown) == text_of(hidden)
    last = parts(shown[-1])[0]
    assert ("thoughtSignature" in last) is signed


def test_a_budget_of_nothing_turns_thinking_off(gemini: WireClient) -> None:
    config = {"thinkingConfig": {"thinkingBudget": 0}}
    answer = gemini.generate(body("Quick", generationConfig=config))
    assert "thoughtsTokenCount" not in answer["usageMetadata"]


def test_media_is_counted_by_modality(gemini: WireClient) -> None:
    png = "iVBORw0KGgoAAAANSUhEUgAACAAAAAgACAIAAAA="  # header only: 2048 by 2048 pixels
    request = body("What is it?")
    request["contents"][0]["parts"].append({"inlineData": {"mimeType": "image/png", "data": png}})
    details = gemini.generate(request)["usageMetadata"]["promptTokensDetails"]
    assert {"modality": "IMAGE", "tokenCount": 9 * 258} in details


def test_json_answers_conform_to_the_schema(gemini: WireClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["harbour", "orchard"]},
            "size": {"type": "integer", "minimum": 7},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
            "note": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 4}]},
        },
        "required": ["kind", "size", "tags"],
        "$defs": {"tag": {"type": "string", "minLength": 20}},
    }
    config = {"responseMimeType": "application/json", "responseJsonSchema": schema}
    said = json.loads(text_of(gemini.stream(body("Describe", generationConfig=config))))
    assert said["kind"] == "harbour"
    assert said["size"] == 7
    assert [len(tag) >= 20 for tag in said["tags"]] == [True, True]
    assert len(said["note"]) <= 4


def test_the_openapi_form_of_a_schema_is_followed_as_well(gemini: WireClient) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"b": {"type": "NUMBER"}, "a": {"type": "boolean"}},
        "propertyOrdering": ["b", "a"],
    }
    config = {"response_mime_type": "application/json", "response_schema": schema}
    said = text_of([gemini.generate(body("Describe", generation_config=config))])
    assert list(json.loads(said)) == ["b", "a"]


def test_an_empty_answer_has_no_count(gemini: WireClient) -> None:
    usage = gemini.generate(body("[[sim tokens=0]]"))["usageMetadata"]
    assert "candidatesTokenCount" not in usage


def test_echo_and_answer_say_exactly_that(gemini: WireClient) -> None:
    assert text_of(gemini.stream(body("  word [[sim echo]]"))) == "word"
    assert text_of(gemini.stream(body('[[sim answer="a \\"b\\"\nc"]]'))) == 'a "b"\nc'


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions_answer(gemini: WireClient, version: str) -> None:
    assert gemini.post("generateContent", body("Hi"), version=version).status_code == 200
