"""Function calling as Gemini does it: ids, signatures, modes, and what histories it refuses."""

import base64
from typing import Any

import pytest

from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, function, parts, text_of

TOOLS = [{"functionDeclarations": [function("get_weather"), function("get_time")]}]
SENTINEL = "skip_thought_signature_validator"


def calls(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for chunk in chunks for part in parts(chunk) if "functionCall" in part]


def mode(name: str, *allowed: str) -> dict[str, Any]:
    return {"functionCallingConfig": {"mode": name, "allowedFunctionNames": list(allowed)}}


def history(
    call: dict[str, Any], *results: dict[str, Any], text: str = "Use get_weather"
) -> dict[str, Any]:
    request = body(text, tools=TOOLS)
    answers = [{"functionResponse": result} for result in results]
    request["contents"] += [
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": answers},
    ]
    return request


def result_of(call: dict[str, Any], **response: Any) -> dict[str, Any]:
    asked = {key: value for key, value in call["functionCall"].items() if key in {"id", "name"}}
    return {**asked, "response": response}


def test_a_function_named_in_the_prompt_is_called_with_conforming_arguments(
    gemini: WireClient,
) -> None:
    answer = gemini.generate(body("Please get weather for me", tools=TOOLS))
    (call,) = calls([answer])
    assert call["functionCall"]["name"] == "get_weather"
    assert isinstance(call["functionCall"]["args"]["city"], str)
    assert call["functionCall"]["args"]["days"] == 2
    assert "id" not in call["functionCall"]
    candidate = answer["candidates"][0]
    assert candidate["finishReason"] == "STOP"
    assert candidate["finishMessage"] == "Model generated function call(s)."


@pytest.mark.parametrize("kind", ["string", "array", "nonsense"])
def test_arguments_are_an_object_whatever_the_schema_says(gemini: WireClient, kind: str) -> None:
    declared = {"name": "f", "parametersJsonSchema": {"type": kind}}
    tools = [{"functionDeclarations": [declared]}]

    answer = gemini.generate(body("Hi", tools=tools, toolConfig=mode("any")))

    assert calls([answer])[0]["functionCall"]["args"] == {}


def test_no_function_is_called_unasked(gemini: WireClient) -> None:
    assert not calls([gemini.generate(body("How are you?", tools=TOOLS))])


def test_mode_none_never_calls(gemini: WireClient) -> None:
    request = body("Use get_weather", tools=TOOLS, toolConfig=mode("none"))
    assert not calls([gemini.generate(request)])


def test_mode_any_always_calls_and_honours_the_allowed_names(gemini: WireClient) -> None:
    request = body("How are you?", tools=TOOLS, toolConfig=mode("ANY", "get_time"))
    (call,) = calls([gemini.generate(request)])
    assert call["functionCall"]["name"] == "get_time"


def test_parallel_calls_of_2_5_come_in_one_chunk_signed_once(gemini: WireClient) -> None:
    chunks = gemini.stream(body("get_weather and get_time", tools=TOOLS), FLASH_25)
    assert len(chunks) == 1
    found = calls(chunks)
    assert ["thoughtSignature" in call for call in found] == [True, False]


def test_parallel_calls_of_3_are_spread_and_end_with_empty_text(gemini: WireClient) -> None:
    chunks = gemini.stream(body("get_weather and get_time", tools=TOOLS), FLASH_3)
    assert [len(calls([chunk])) for chunk in chunks] == [1, 1, 0]
    found = calls(chunks)
    assert ["thoughtSignature" in call for call in found] == [True, False]
    assert len({call["functionCall"]["id"] for call in found}) == 2
    assert parts(chunks[-1]) == [{"text": ""}]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("model", ["gemini-2.0-flash", FLASH_25, FLASH_3])
def test_a_result_is_used_in_the_answer(gemini: WireClient, model: str) -> None:
    request = body("Use get_weather", tools=TOOLS)
    (call,) = calls(gemini.stream(request, model))
    answered = history(call, result_of(call, sky="crimson"))
    answer = gemini.stream(answered, model)
    assert not calls(answer)
    assert 'get_weather returned {"sky":"crimson"}' in text_of(answer)


@pytest.mark.parametrize("signature", [SENTINEL, base64.b64encode(SENTINEL.encode()).decode()])
def test_the_documented_sentinel_passes_for_a_signature(gemini: WireClient, signature: str) -> None:
    call = {"functionCall": {"name": "get_weather", "id": "a"}, "thoughtSignature": signature}
    assert gemini.generate(history(call, result_of(call)), FLASH_3)


def test_generation_3_refuses_a_call_without_its_signature(gemini: WireClient) -> None:
    call: dict[str, Any] = {"functionCall": {"name": "get_weather", "id": "a"}}
    request = history(call, result_of(call))
    assert "missing a thought_signature" in gemini.error(request, FLASH_3)["message"]
    assert gemini.generate(request, FLASH_25)
    call["thoughtSignature"] = "c29tZXRoaW5nIGVsc2U="
    assert "Corrupted" in gemini.error(history(call, result_of(call)), FLASH_3)["message"]


def test_signatures_of_earlier_turns_are_not_checked(gemini: WireClient) -> None:
    call = {"functionCall": {"name": "get_weather", "id": "a"}}
    request = history(call, result_of(call))
    request["contents"].append({"role": "user", "parts": [{"text": "Thanks"}]})
    assert gemini.generate(request, FLASH_3)


def test_calls_and_results_must_pair(gemini: WireClient) -> None:
    call = {"functionCall": {"name": "get_weather"}}
    two = history(call, result_of(call), result_of(call))
    assert "number of function response parts" in gemini.error(two)["message"]
    alone = body("x")
    alone["contents"].append(two["contents"][2])
    assert "immediately after a function call turn" in gemini.error(alone)["message"]


def test_from_3_5_on_a_result_must_carry_the_id_of_its_call(gemini: WireClient) -> None:
    call = {"functionCall": {"name": "get_weather", "id": "a"}, "thoughtSignature": SENTINEL}
    wrong = {"name": "get_weather", "id": "b", "response": {}}
    assert "id and name" in gemini.error(history(call, wrong), FLASH_3)["message"]


def test_a_directive_chooses_calls_arguments_and_text_before_them(gemini: WireClient) -> None:
    order = '[[sim call=get_time,get_weather args="{\\"a\\": 1}" tokens=3 call_id=same]]'
    chunks = gemini.stream(body(order, tools=TOOLS), FLASH_3)
    assert [call["functionCall"] for call in calls(chunks)] == [
        {"name": name, "args": {"a": 1}, "id": "same"} for name in ("get_time", "get_weather")
    ]
    assert len([chunk for chunk in chunks if text_of([chunk])]) == 3


def test_a_call_beyond_the_output_limit_is_not_made(gemini: WireClient) -> None:
    config = {"maxOutputTokens": 3, "thinkingConfig": {"thinkingBudget": 0}}
    answer = gemini.generate(body("get_weather", tools=TOOLS, generationConfig=config))
    assert not calls([answer])
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
