"""Text completions: the form before there was chat."""

from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.request import Surroundings, to_gemini
from ai_proxy_service.translation.text_completion import (
    TextRequest,
    TextStreamTranslator,
    as_chat,
    parse_text,
    prompts_of,
    text_choices,
    text_completion,
)
from ai_proxy_service.translation.usage import openai_usage
from service_kit.errors import ServiceError
from support.chats import FLASH_2, PRICES, Json, candidate, chunk, events, gemini
from support.openai_schema import assert_valid

TOKENS = {
    "logprobsResult": {
        "chosenCandidates": [
            {"token": "Hé", "logProbability": -0.5},
            {"token": "!", "logProbability": -0.25},
        ],
        "topCandidates": [
            {"candidates": [{"token": "Yo", "logProbability": -1.5}]},
            {"candidates": []},
        ],
    }
}


def parsed(**fields: Any) -> TextRequest:
    return parse_text(msgspec.json.encode({"model": FLASH_2, "prompt": "hi", **fields}))


def body(prompt: str = "hi", **fields: Any) -> Json:
    """Return what Gemini is asked for a prompt."""
    chat = as_chat(parsed(**fields), prompt)
    return to_gemini(chat, FLASH_2, Surroundings(price=PRICES[FLASH_2])).body


def choices(*chunks: GenerateContentResponse, count: int = 1, first: int = 0) -> list[Json]:
    answer = AnswerState()
    for received in chunks:
        answer.add(received)
    return text_choices(answer, answer.reasons(count), first)


def streamed(*chunks: GenerateContentResponse, include_usage: bool = False) -> list[Json]:
    translator = TextStreamTranslator(
        completion_id="cmpl-1", created=5, model="gpt-4", include_usage=include_usage
    )
    raw = b"".join(translator.chunk(received) for received in chunks) + translator.finish()
    usage = TokenUsage(prompt_tokens=1, candidates_tokens=2, total_tokens=3)
    return events(raw + translator.end(translator.answer.reasons(1), usage, 2_500))


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a"], ["a"]), (["a", "b"], ["a", "b"]), (["x"] * 20, ["x"] * 20)],
)
def test_each_prompt_is_asked_for_itself(prompt: Any, prompts: list[str]) -> None:
    assert prompts_of(parsed(prompt=prompt)) == prompts
    assert body("a")["contents"] == [{"role": "user", "parts": [{"text": "a"}]}]


def test_parameters_mean_what_they_mean_in_a_chat() -> None:
    asked = body(
        max_tokens=2000,
        temperature=0.5,
        top_p=0.5,
        n=2,
        stop=["a", "b"],
        seed=7,
        logprobs=5,
        frequency_penalty=1,
        google={"top_k": 3},
    )["generationConfig"]

    asked.pop("thinkingConfig")
    assert asked == {
        "maxOutputTokens": 2000,
        "temperature": 0.5,
        "topP": 0.5,
        "topK": 3,
        "candidateCount": 2,
        "stopSequences": ["a", "b"],
        "seed": 7,
        "responseLogprobs": True,
        "logprobs": 5,
    }


def test_without_a_limit_there_is_none() -> None:
    """OpenAI's own default of 16 tokens would be spent on thinking."""
    assert "maxOutputTokens" not in body()["generationConfig"]


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": ""},
        {"suffix": None, "echo": False, "best_of": 1, "logit_bias": {}, "user": None},
        {"unheard_of": 1},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_what_asks_for_nothing_special_is_accepted(fields: Json) -> None:
    assert parsed(**fields).model == FLASH_2


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": ["a", ""]}, "prompt", "invalid_value"),
        ({"prompt": ["x"] * 21}, "prompt", "invalid_value"),
        ({"prompt": [1, 2]}, "prompt", "unsupported_parameter"),
        ({"prompt": [[1], [2]]}, "prompt", "unsupported_parameter"),
        ({"prompt": ["a", "b"], "stream": True}, "prompt", "unsupported_parameter"),
        ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
        ({"echo": True}, "echo", "unsupported_parameter"),
        ({"suffix": "x"}, "suffix", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"logit_bias": {"1": 1}}, "logit_bias", "unsupported_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"model": None}, "model", "invalid_type"),
    ],
)
def test_what_can_not_be_honoured_is_refused(fields: Json, param: str, code: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parsed(**fields)

    assert (caught.value.status, caught.value.field, caught.value.code) == (400, param, code)


def test_an_answer_has_openais_form() -> None:
    usage = openai_usage(TokenUsage(prompt_tokens=1, candidates_tokens=2, total_tokens=3), 2_500)
    made = choices(
        chunk({"text": "hm", "thought": True}, {"text": "Hé"}),
        chunk({"text": "!"}, finish="STOP", **TOKENS),
    )

    whole = text_completion(made, completion_id="cmpl-1", created=5, model="gpt-4", usage=usage)

    assert_valid(whole, "CreateCompletionResponse")
    assert whole["object"] == "text_completion"
    assert whole["choices"] == [
        {
            "text": "Hé!",
            "index": 0,
            "logprobs": {
                "tokens": ["Hé", "!"],
                "token_logprobs": [-0.5, -0.25],
                "top_logprobs": [{"Yo": -1.5}, {}],
                "text_offset": [0, 2],
            },
            "finish_reason": "stop",
        }
    ]


@pytest.mark.parametrize(
    ("native", "reason"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter")],
)
def test_each_reason_is_one_of_three(native: str, reason: str) -> None:
    (choice,) = choices(chunk({"text": "x"}, finish=native))

    assert (choice["finish_reason"], choice["logprobs"]) == (reason, None)


def test_answers_are_numbered_through_all_prompts() -> None:
    both = gemini(
        [candidate({"text": "a"}, finish="STOP"), candidate({"text": "b"}, finish="STOP", index=1)]
    )

    found = choices(both, count=2, first=4)

    assert [(item["index"], item["text"]) for item in found] == [(4, "a"), (5, "b")]


def test_a_stream_has_the_same_object_and_ends_once() -> None:
    found = streamed(
        chunk({"text": "hm", "thought": True}),
        chunk({"text": "Hé"}),
        chunk({"text": "!"}, finish="STOP", **TOKENS),
    )

    assert "".join(event["choices"][0]["text"] for event in found) == "Hé!"
    reasons = [event["choices"][0]["finish_reason"] for event in found]
    assert reasons == [None] * (len(found) - 1) + ["stop"]
    assert {event["object"] for event in found} == {"text_completion"}
    assert all("usage" not in event for event in found)
    assert found[-1]["choices"][0]["logprobs"]["tokens"] == ["Hé", "!"]


def test_usage_comes_once_last_and_only_if_asked_for() -> None:
    *others, last = streamed(chunk({"text": "x"}, finish="STOP"), include_usage=True)

    assert [event["usage"] for event in others] == [None] * len(others)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 3)


def test_a_blocked_prompt_is_filtered() -> None:
    found = streamed(gemini(promptFeedback={"blockReason": "SAFETY"}))

    assert found[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert choices(gemini(promptFeedback={"blockReason": "SAFETY"}))[0]["text"] == ""
