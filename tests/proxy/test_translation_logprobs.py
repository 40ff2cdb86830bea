"""How likely tokens were, in whole answers and in streams."""

from typing import Any

from support.chats import Json, chunk, gemini, streamed, whole
from support.openai_schema import assert_valid

STOP = chunk(finish="STOP")


def token(text: str, value: float) -> Json:
    return {"token": text, "tokenId": 5, "logProbability": value}


def result(*tokens: str, **fields: Any) -> Json:
    chosen = [token(text, -0.5) for text in tokens]
    return {"logprobsResult": {"chosenCandidates": chosen, **fields}}


def shown(text: str, value: float) -> Json:
    return {"token": text, "logprob": value, "bytes": list(text.encode())}


def test_chosen_tokens_and_the_likeliest_stand_side_by_side() -> None:
    tops = [{"candidates": [token("Hé", -0.5), token("Yo", -1.25)]}, {"candidates": []}]
    chunks = [chunk({"text": "Hé!"}, **result("Hé", "!", topCandidates=tops)), STOP]

    body = whole(*chunks)

    assert body["choices"][0]["logprobs"] == {
        "content": [
            {**shown("Hé", -0.5), "top_logprobs": [shown("Hé", -0.5), shown("Yo", -1.25)]},
            {**shown("!", -0.5), "top_logprobs": []},
        ],
        "refusal": None,
    }
    assert_valid(body, "CreateChatCompletionResponse")


def test_a_stream_tells_each_chunks_tokens_once_beside_its_text() -> None:
    chunks = [
        chunk({"text": "a"}, {"text": "b"}, **result("a", "b")),
        chunk({"text": "c"}, **result("c")),
        chunk(finish="STOP"),
    ]

    found = streamed(*chunks)

    told = [
        (choice["delta"].get("content"), [item["token"] for item in choice["logprobs"]["content"]])
        for event in found
        for choice in event["choices"]
        if choice["logprobs"]
    ]
    assert told == [("a", ["a", "b"]), ("c", ["c"])]
    whole_tokens = whole(*chunks)["choices"][0]["logprobs"]["content"]
    assert [item["token"] for item in whole_tokens] == ["a", "b", "c"]


def test_tokens_of_a_chunk_without_text_are_not_lost() -> None:
    found = streamed(chunk({"text": "a"}), chunk({"text": ""}, finish="STOP", **result("a")))

    told = [
        item["token"]
        for event in found
        for choice in event["choices"]
        if choice["logprobs"]
        for item in choice["logprobs"]["content"]
    ]
    assert told == ["a"]
    assert all(event["choices"][0]["delta"].get("content") != "" for event in found[1:])


def test_answers_side_by_side_have_their_own() -> None:
    both = gemini(
        [
            {"content": {"parts": [{"text": "a"}]}, **result("a"), "finishReason": "STOP"},
            {
                "content": {"parts": [{"text": "b"}]},
                **result("b"),
                "finishReason": "STOP",
                "index": 1,
            },
        ]
    )

    choices = whole(both, choices=2)["choices"]

    tokens = [choice["logprobs"]["content"][0]["token"] for choice in choices]
    assert tokens == ["a", "b"]
    for event in streamed(both, choices=2):
        for choice in event["choices"]:
            if choice["logprobs"]:
                assert choice["logprobs"]["content"][0]["token"] == choice["delta"]["content"]


def test_without_any_there_are_none() -> None:
    """Older models send an average that nobody has asked for."""
    chunks = [chunk({"text": "a"}, avgLogprobs=-0.1, finish="STOP")]

    assert whole(*chunks)["choices"][0]["logprobs"] is None
    assert all(event["choices"][0]["logprobs"] is None for event in streamed(*chunks))
