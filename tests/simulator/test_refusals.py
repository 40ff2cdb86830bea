"""What Gemini accepts is accepted, and what it refuses is refused in its own words."""

import json
from typing import Any

import pytest

from gemini_simulator.checks import check_request
from gemini_simulator.errors import ApiError
from gemini_simulator.messages import GenerateContentRequest
from gemini_simulator.models import MODELS
from gemini_simulator.proto_json import read_message
from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, function

PRO_3 = "gemini-3.1-pro-preview"


def config(**options: Any) -> dict[str, Any]:
    return body("Hi", generationConfig=options)


def test_snake_case_nulls_single_objects_and_lower_case_are_accepted(gemini: WireClient) -> None:
    declaration = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    request = {
        "contents": {"parts": {"text": "use f"}},
        "system_instruction": {"parts": {"text": "Be brief."}, "role": "system"},
        "tools": {"function_declarations": declaration},
        "tool_config": {"function_calling_config": {"mode": "any"}},
        "generation_config": {"max_output_tokens": "50", "thinking_config": None},
        "safetySettings": None,
    }
    parts = gemini.generate(request)["candidates"][0]["content"]["parts"]
    assert parts[0]["functionCall"] == {"name": "f", "args": {}}


def test_enumerations_are_accepted_as_numbers(gemini: WireClient) -> None:
    request = body("Hi", safetySettings=[{"category": 10, "threshold": 3}])
    request["tools"] = [{"functionDeclarations": [{"name": "f", "parameters": {"type": 6}}]}]
    request["toolConfig"] = {"functionCallingConfig": {"mode": 2}}
    assert "functionCall" in gemini.generate(request)["candidates"][0]["content"]["parts"][0]


@pytest.mark.parametrize(
    ("model", "request_body", "expected"),
    [
        (FLASH_25, {}, "contents is not specified"),
        (FLASH_25, {"contents": []}, "contents is not specified"),
        (FLASH_25, {"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        (FLASH_25, {"contents": [{"parts": [{}]}]}, "required oneof field 'data'"),
        (FLASH_25, {"contents": [{"role": "tool", "parts": {"text": "x"}}]}, "valid role"),
        (FLASH_25, body("x", foo=1), 'Unknown name "foo": Cannot find field.'),
        (FLASH_25, config(foo=1), "Unknown name \"foo\" at 'generation_config'"),
        (FLASH_25, config(temperature="hot"), "generation_config.temperature"),
        (FLASH_25, config(temperature=2.5), "[0.0, 2.0]"),
        (FLASH_25, config(maxOutputTokens=70_000), "maxOutputTokens"),
        (FLASH_25, config(stopSequences=list("abcdef")), "stop_sequences"),
        (FLASH_25, config(frequencyPenalty=0.5), "Penalty is not enabled for this model"),
        (FLASH_25, config(responseLogprobs=True), "Logprobs is not enabled"),
        (FLASH_25, config(responseModalities=["AUDIO"]), "response modalities"),
        (FLASH_3, config(candidateCount=2), "Multiple candidates is not enabled for this model"),
        (
            FLASH_3,
            config(thinkingConfig={"thinkingLevel": "LOW", "thinkingBudget": 1}),
            "only one of thinking budget and thinking level",
        ),
        (FLASH_25, config(thinkingConfig={"thinkingLevel": "LOW"}), "Thinking level"),
        (PRO_3, config(thinkingConfig={"thinkingLevel": "minimal"}), "MINIMAL is not supported"),
        ("gemini-2.5-pro", config(thinkingConfig={"thinkingBudget": 0}), "Budget 0 is invalid"),
        ("gemini-2.5-pro", config(thinkingConfig={"thinkingBudget": 5}), "between 128 and 32768"),
        (
            FLASH_25,
            config(responseMimeType="application/json")
            | {"tools": [{"functionDeclarations": [function()]}]},
            "Function calling with a response mime type",
        ),
        (
            FLASH_25,
            body("x", tools=[{"functionDeclarations": [function()]}, {"googleSearch": {}}]),
            "Tool use with function calling is unsupported",
        ),
        (
            FLASH_25,
            body("x", tools=[{"functionDeclarations": [{"name": "1st"}]}]),
            "Invalid function name",
        ),
        (
            FLASH_3,
            {"contents": [{"parts": {"text": "x"}}, {"role": "model", "parts": {"text": "y"}}]},
            "end with a user role",
        ),
        (
            FLASH_3,
            {"contents": [{"role": "function", "parts": {"text": "x"}}]},
            "Role 'function' is not supported",
        ),
        (FLASH_25, body("[[sim tokns=4]]"), "tokns"),
        (FLASH_25, body("[[sim tokens=many]]"), "tokens"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(
    gemini: WireClient, model: str, request_body: Any, expected: str
) -> None:
    error = gemini.error(request_body, model)
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert expected in error["message"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"', b"\xff", b'{"contents": "\\ud800"}'])
def test_malformed_json_is_refused(gemini: WireClient, content: bytes) -> None:
    response = gemini.http.post(f"/v1beta/models/{FLASH_25}:generateContent", content=content)
    assert response.status_code == 400
    assert "Invalid JSON payload" in response.json()["error"]["message"]


def test_a_body_beyond_the_limit_is_refused(gemini: WireClient) -> None:
    error = gemini.error(body("x" * 200_000))
    assert (error["code"], "payload size" in error["message"]) == (400, True)


def test_a_prompt_beyond_the_input_limit_is_refused() -> None:
    model = MODELS[FLASH_25]
    request = read_message(GenerateContentRequest, json.dumps(body("Hi")).encode())
    check_request(request, model, model.input_token_limit)
    with pytest.raises(ApiError, match="exceeds the maximum number of tokens allowed"):
        check_request(request, model, model.input_token_limit + 1)


@pytest.mark.parametrize("key", ["invalid-key", "revoked", "other"])
def test_a_key_that_does_not_exist_is_400_not_401(simulator_url: str, key: str) -> None:
    client = WireClient(simulator_url, key)
    with client.http:
        error = client.error(body("Hi"))
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["reason"] == "API_KEY_INVALID"


def test_no_key_is_403(simulator_url: str) -> None:
    client = WireClient(simulator_url, None)
    with client.http:
        error = client.error(body("Hi"))
        given = client.http.post(
            f"/v1beta/models/{FLASH_25}:generateContent?key=mine", json=body("Hi")
        )
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert given.status_code == 200


@pytest.mark.parametrize("model", ["gemini-9", "gemini-embedding-001"])
def test_a_model_that_cannot_generate_is_404(gemini: WireClient, model: str) -> None:
    error = gemini.error(body("Hi"), model)
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert f"models/{model} is not found for API version v1beta" in error["message"]


def test_a_refused_stream_is_a_bare_error_under_the_type_of_events(gemini: WireClient) -> None:
    response = gemini.post("streamGenerateContent?alt=sse", {}, FLASH_25)
    assert response.status_code == 400
    assert response.headers["content-type"] == "text/event-stream"
    assert response.json()["error"]["code"] == 400


def test_a_refused_array_stream_wraps_the_error_in_an_array(gemini: WireClient) -> None:
    response = gemini.post("streamGenerateContent", {}, FLASH_25)
    assert response.json()[0]["error"]["code"] == 400


def test_pages_of_the_model_list_join_up(gemini: WireClient) -> None:
    everything = gemini.http.get("/v1beta/models?pageSize=1000").json()
    assert "nextPageToken" not in everything
    names, token = [], ""
    while True:
        page = gemini.http.get("/v1beta/models", params={"pageSize": 4, "pageToken": token}).json()
        assert len(page["models"]) <= 4
        names += [model["name"] for model in page["models"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert names == [model["name"] for model in everything["models"]]
    assert gemini.http.get(f"/v1/{names[0]}").json() == everything["models"][0]
    assert gemini.http.get("/v1beta/models/gemini-9").status_code == 404


def test_embeddings_depend_on_the_text_alone_and_have_the_asked_length(gemini: WireClient) -> None:
    model = "gemini-embedding-001"
    requests = [
        {
            "model": f"models/{model}",
            "content": {"parts": {"text": text}},
            "outputDimensionality": 8,
        }
        for text in ("a", "b", "a")
    ]
    answer = gemini.post("batchEmbedContents", {"requests": requests}, model).json()
    first, second, third = (embedding["values"] for embedding in answer["embeddings"])
    assert (len(first), first == third, first == second) == (8, True, False)
    assert "usageMetadata" not in answer
    assert sum(value * value for value in first) < 0.5


def test_the_newer_embedding_model_normalises_and_reports_usage(gemini: WireClient) -> None:
    request = {"content": {"parts": {"text": "hello"}}, "outputDimensionality": 256}
    answer = gemini.post("embedContent", request, "gemini-embedding-2").json()
    assert sum(value * value for value in answer["embedding"]["values"]) == pytest.approx(1)
    assert answer["usageMetadata"]["promptTokenDetails"][0]["modality"] == "TEXT"
