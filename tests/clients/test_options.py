"""What becomes of the options of a request, with openai-python."""

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from clients.gateway import FLASH_3, FLASH_25, FLASH_38, WEATHER, Gateway, user


class Place(BaseModel):
    city: str
    people: int
    rivers: list[str]


@pytest.mark.parametrize("model", [FLASH_25, FLASH_38])
def test_23_parse_gives_the_object(gateway: Gateway, model: str) -> None:
    client = gateway.client()
    asked: Any = user("Tell me of Oslo")

    answer = client.chat.completions.parse(model=model, messages=asked, response_format=Place)
    with client.chat.completions.stream(
        model=model, messages=asked, response_format=Place
    ) as stream:
        final = stream.get_final_completion()

    assert isinstance(answer.choices[0].message.parsed, Place)
    assert isinstance(final.choices[0].message.parsed, Place)
    for body in gateway.upstream(2):
        config = body["generationConfig"]
        assert config["responseMimeType"] == "application/json"
        assert list(config["responseJsonSchema"]["properties"]) == ["city", "people", "rivers"]


def test_23_json_object_gives_an_object(gateway: Gateway) -> None:
    answer = gateway.chat("Tell me of Oslo", response_format={"type": "json_object"})

    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    (body,) = gateway.upstream()
    assert body["generationConfig"]["responseMimeType"] == "application/json"


def test_23_a_schema_needs_a_name(gateway: Gateway) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    error = gateway.refusal("hi", response_format=wanted)

    assert isinstance(error, openai.BadRequestError)
    assert (error.param or "").startswith("response_format")


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
BUDGET_25 = (1024, 1024, 8192, 24576)
THINKING: dict[str, tuple[int | str, ...]] = {
    "gemini-2.5-flash": (0, *BUDGET_25, 24576, 24576),
    "gemini-2.5-flash-lite": (0, *BUDGET_25, 24576, 24576),
    "gemini-2.5-pro": (128, *BUDGET_25, 32768, 32768),
    "gemini-3-flash-preview": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.5-flash": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.1-flash-lite": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.1-pro-preview": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.7-flash": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "gemini-3.8-flash": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
}


@pytest.mark.parametrize("model", list(THINKING))
def test_33_effort_becomes_the_models_own_setting(gateway: Gateway, model: str) -> None:
    for effort in EFFORTS:
        gateway.chat("[[sim tokens=1]]", model=model, reasoning_effort=effort)

    for effort, wanted, body in zip(
        EFFORTS, THINKING[model], gateway.upstream(len(EFFORTS)), strict=True
    ):
        config = body["generationConfig"]["thinkingConfig"]
        name = "thinkingLevel" if isinstance(wanted, str) else "thinkingBudget"
        assert config.pop(name) == wanted, effort
        thinks = wanted != 0
        assert config.pop("includeThoughts", False) is thinks, effort
        assert config == {}, effort


def test_33_another_effort_is_refused(gateway: Gateway) -> None:
    error = gateway.refusal("hi", reasoning_effort="extreme")

    assert isinstance(error, openai.BadRequestError)
    assert error.param == "reasoning_effort"


@pytest.mark.parametrize("model", [FLASH_25, FLASH_3, FLASH_38])
def test_34_reasoning_comes_apart_from_the_answer(gateway: Gateway, model: str) -> None:
    order = 'think [[sim thoughts=12 answer="so be it"]]'
    answer = gateway.chat(order, model=model, reasoning_effort="low")
    chunks = gateway.stream(order, model=model, reasoning_effort="low")

    deltas = [chunk.choices[0].delta for chunk in chunks]
    thought = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    message = answer.choices[0].message
    assert thought
    assert (message.model_extra or {})["reasoning_content"] == thought
    assert message.content == "so be it"
    assert "".join(delta.content or "" for delta in deltas) == "so be it"


def test_36_temperature_is_checked_and_dropped_where_it_has_no_effect(gateway: Gateway) -> None:
    error = gateway.refusal("hi", temperature=3)
    assert (error.status_code, error.param) == (400, "temperature")
    assert gateway.upstream_count() == 0

    gateway.chat("hi", model=FLASH_38, temperature=0.2, top_p=0.5)
    gateway.chat("hi", model=FLASH_25, temperature=0.2, top_p=0.5)

    newest, older = gateway.upstream(2)
    assert not {"temperature", "topP"} & set(newest.get("generationConfig", {}))
    assert older["generationConfig"]["temperature"] == 0.2
    assert older["generationConfig"]["topP"] == 0.5


def test_37_penalties_are_checked_and_ignored(gateway: Gateway) -> None:
    create = gateway.client().chat.completions.with_raw_response.create
    answer = create(
        model=FLASH_25,
        messages=[{"role": "user", "content": "hi"}],
        frequency_penalty=0.5,
        presence_penalty=-1,
    )

    assert answer.parse().choices[0].finish_reason == "stop"
    ignored = answer.headers["x-proxy-ignored-params"]
    assert {name.strip() for name in ignored.split(",")} >= {
        "frequency_penalty",
        "presence_penalty",
    }
    (body,) = gateway.upstream()
    assert "enalty" not in json.dumps(body)
    error = gateway.refusal("hi", frequency_penalty=2.5)
    assert (error.status_code, error.param) == (400, "frequency_penalty")


def test_38_several_answers_where_the_model_can(gateway: Gateway) -> None:
    answer = gateway.chat("[[sim tokens=5]]", n=2)
    final = gateway.helper_stream("[[sim tokens=5]]", n=2)
    chunks = gateway.stream("[[sim tokens=5]]", n=2)

    for completion in (answer, final):
        assert [choice.index for choice in completion.choices] == [0, 1]
        for choice in completion.choices:
            assert choice.finish_reason == "stop"
            assert choice.message.content
            assert choice.message.role == "assistant"
    indices = [chunk.choices[0].index for chunk in chunks]
    assert list(dict.fromkeys(indices)) == [0, 1]
    finished = [
        chunk.choices[0].index for chunk in chunks if chunk.choices[0].finish_reason is not None
    ]
    assert sorted(finished) == [0, 1]


def test_38_several_answers_are_refused_where_it_can_not(gateway: Gateway) -> None:
    error = gateway.refusal("hi", model=FLASH_38, n=2)

    assert (error.status_code, error.param) == (400, "n")


def test_39_four_stops_at_most(gateway: Gateway) -> None:
    error = gateway.refusal("hi", stop=["a", "b", "c", "d", "e"])
    assert (error.status_code, error.param) == (400, "stop")
    assert gateway.upstream_count() == 0

    gateway.chat("hi", stop=["Q1", "Q2", "Q3", "Q4"])

    (body,) = gateway.upstream()
    assert body["generationConfig"]["stopSequences"] == ["Q1", "Q2", "Q3", "Q4"]


def test_40_logprobs_are_refused_where_the_model_has_none(gateway: Gateway) -> None:
    error = gateway.refusal("hi", logprobs=True, top_logprobs=2)
    assert (error.status_code, error.param) == (400, "logprobs")

    error = gateway.refusal("hi", top_logprobs=2)
    assert error.status_code == 400


def test_44_a_limit_is_told_and_parse_does_not_take_half_an_object(gateway: Gateway) -> None:
    answer = gateway.chat("long [[sim tokens=500]]", max_completion_tokens=20)
    chunks = gateway.stream("long [[sim tokens=500]]", max_tokens=20)

    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"
    asked: Any = user("Tell me [[sim finish=MAX_TOKENS]]")
    with pytest.raises(openai.LengthFinishReasonError):
        gateway.client().chat.completions.parse(
            model=FLASH_25, messages=asked, response_format=Place
        )


def test_44_a_small_limit_on_a_thinking_model_leaves_room_for_an_answer(gateway: Gateway) -> None:
    gateway.chat("hi", model=FLASH_38, max_completion_tokens=100, tools=[WEATHER])

    (body,) = gateway.upstream()
    assert body["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "LOW"
