"""What the client over Google's retired SDK can say to Gemini, and what it refuses to leave out."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini_answers import finish_name
from ai_proxy_service.services.gemini_sdk import SdkGeminiClient
from ai_proxy_service.services.gemini_sdk_schema import DEPTH_MAX
from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, function
from support.processes import ServiceProcess
from support.sdk_bench import CALL, RESULT, connected, only, text_of


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    with ServiceProcess("gemini-simulator", {"SIMULATOR_INVALID_API_KEYS": "revoked"}) as process:
        yield process.url


@pytest.fixture
def gemini(simulator_url: str) -> Iterator[WireClient]:
    client = WireClient(simulator_url)
    with client.http:
        client.control("DELETE", "requests")
        yield client


@pytest.fixture
async def client(gemini: WireClient) -> AsyncIterator[SdkGeminiClient]:
    async with connected(gemini.url) as client:
        yield client


def received(gemini: WireClient) -> dict[str, Any]:
    """Return the body of the only request that Gemini got."""
    (request,) = gemini.control("GET", "requests", params={"count": 1})["requests"]
    found: dict[str, Any] = request["body"]
    return found


async def test_a_whole_conversation_reaches_gemini(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    request = {
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "be kind"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "weather?"}, image]},
            {"role": "model", "parts": [{"text": "old", "thought": True}, {"text": "a moment"}]},
            {"role": "user", "parts": [{"text": "do ask"}]},
            {"role": "model", "parts": [{**CALL, "thoughtSignature": "c2ln"}]},
            {"role": "user", "parts": [RESULT]},
        ],
        "tools": [{"functionDeclarations": [function()]}],
        "toolConfig": {"functionCallingConfig": {"mode": "NONE"}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        "generationConfig": {
            "candidateCount": 1,
            "stopSequences": ["END"],
            "maxOutputTokens": 500,
            "temperature": 0.2,
            "topP": 0.9,
            "topK": 20,
            "seed": 7,
            "thinkingConfig": {"thinkingBudget": 0},
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
        },
        "serviceTier": "FLEX",
    }

    answer = await client.generate_completion(FLASH_25, request)

    assert "crimson" in text_of(answer)
    sent = received(gemini)
    assert sent["generationConfig"] == {
        "candidateCount": 1,
        "stopSequences": ["END"],
        "maxOutputTokens": 500,
        "temperature": 0.2,
        "topP": 0.9,
        "topK": 20,
    }
    assert sent["contents"] == [
        {"role": "user", "parts": [{"text": "weather?"}, image]},
        {"role": "model", "parts": [{"text": "a moment"}]},
        {"role": "user", "parts": [{"text": "do ask"}]},
        {"role": "model", "parts": [CALL]},
        {"role": "user", "parts": [RESULT]},
    ]
    assert sent["systemInstruction"]["parts"] == [{"text": "be brief"}, {"text": "be kind"}]
    assert sent["safetySettings"] == [{"category": 7, "threshold": 5}]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": 3}}
    assert "serviceTier" not in sent
    declared = sent["tools"][0]["functionDeclarations"][0]
    assert declared["parameters"]["properties"]["city"] == {"type": 1}
    assert client.unsupported >= {"seed", "reasoning_effort", "service_tier"}


async def test_a_function_without_parameters_has_none(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    tool = {"name": "now", "parametersJsonSchema": {"type": "object", "properties": {}}}

    await client.generate_completion(
        FLASH_25, body("hi", tools=[{"functionDeclarations": [tool, {"name": "later"}]}])
    )

    assert received(gemini)["tools"] == [
        {"functionDeclarations": [{"name": "now"}, {"name": "later"}]}
    ]


async def test_a_schema_as_deep_as_is_allowed_is_sent(client: SdkGeminiClient) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(DEPTH_MAX):
        schema = {"type": "object", "properties": {"inner": schema}}
    request = body("hi", tools=[{"functionDeclarations": [function(**schema)]}])

    assert (
        finish_name(only(await client.generate_completion(FLASH_25, request)).finish_reason)
        == "STOP"
    )


@pytest.mark.parametrize("tool", ["googleSearch", "codeExecution"])
async def test_tools_of_google_that_the_sdk_knows_are_sent(
    client: SdkGeminiClient, gemini: WireClient, tool: str
) -> None:
    await client.generate_completion(FLASH_25, body("hi", tools=[{tool: {}}]))

    assert received(gemini)["tools"] == [{tool: {}}]


async def test_an_answer_follows_a_json_schema(client: SdkGeminiClient) -> None:
    config = {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {"n": {"type": ["integer", "null"]}, "tags": {"type": "array"}},
            "required": ["n"],
            "additionalProperties": False,
        },
    }

    answer = await client.generate_completion(FLASH_25, body("hi", generationConfig=config))

    assert json.loads(text_of(answer)) == {"n": 1, "tags": ["sample tags"]}


async def test_numbers_that_a_double_cannot_hold_are_sent_as_texts(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    result = {"id": 2**63 - 1, "rows": [{"n": 2**53}, {"n": -(2**60)}], "ok": True, "none": None}
    request = body("go on")
    request["contents"] += [
        {"role": "model", "parts": [CALL]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "get_weather", "response": result}}],
        },
    ]

    await client.generate_completion(FLASH_25, request)

    (sent,) = received(gemini)["contents"][-1]["parts"]
    assert sent["functionResponse"]["response"] == {
        "id": str(2**63 - 1),
        "rows": [{"n": 2**53}, {"n": str(-(2**60))}],
        "ok": True,
        "none": None,
    }


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"urlContext": {}}]}, "google"),
        ({"tools": [{"fileSearch": {}}]}, "tools"),
        ({"toolConfig": {"includeServerSideToolInvocations": True}}, "tools"),
        ({"generationConfig": {"responseModalities": ["VIDEO"]}}, "modalities"),
        ({"generationConfig": {"imageConfig": {"aspectRatio": "1:1"}}}, "google"),
        ({"generationConfig": {"topK": 2**40}}, "top_k"),
        ({"safetySettings": [{"category": "HARM_CATEGORY_NEW", "threshold": "OFF"}]}, "google"),
        ({"labels": {}}, "google"),
    ],
)
async def test_what_the_sdk_cannot_say_is_refused_with_its_name(
    client: SdkGeminiClient, gemini: WireClient, more: dict[str, Any], field: str
) -> None:
    calls = (
        client.generate_completion(FLASH_25, body("hi", **more)),
        client.generate_completion_stream(FLASH_25, body("hi", **more)),
        client.count_tokens(FLASH_25, body("hi", **more)),
    )
    for call in calls:
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert caught.value.status == 400
        assert caught.value.code == "unsupported_parameter"
        assert caught.value.field == field
    assert gemini.control("GET", "requests")["requests"] == []


@pytest.mark.parametrize(
    "part",
    [
        {"functionResponse": {**RESULT["functionResponse"], "parts": [{"inlineData": {}}]}},
        {"toolCall": {"toolType": "GOOGLE_SEARCH"}},
        {"text": "watch", "videoMetadata": {"fps": 1}},
        {"functionResponse": {"name": "f", "response": {"deep": deep(65)}}},
        {"functionResponse": {"name": "f", "response": {"deep": deep(2000)}}},
        {"inlineData": {"mimeType": "image/png", "data": "a"}},
    ],
)
async def test_parts_that_the_sdk_cannot_say_are_refused(
    client: SdkGeminiClient, part: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.generate_completion(
            FLASH_25, {"contents": [{"role": "user", "parts": [part]}]}
        )
    assert (caught.value.code, caught.value.field) == ("unsupported_parameter", "messages")


async def test_a_tool_loop_of_gemini_3_is_refused_only_where_gemini_would(
    client: SdkGeminiClient,
) -> None:
    """Signatures are asked for in the current turn, and the SDK can't send them."""
    request = body("weather?")
    request["contents"] += [
        {"role": "model", "parts": [{**CALL, "thoughtSignature": "c2ln"}]},
        {"role": "user", "parts": [RESULT]},
    ]
    with pytest.raises(InvalidRequestError, match="Gemini 3") as caught:
        await client.generate_completion(FLASH_3, request)
    assert caught.value.field == "messages"
    await client.generate_completion(FLASH_25, request)

    request["contents"] += [
        {"role": "model", "parts": [{"text": "red"}]},
        {"role": "user", "parts": [{"text": "thanks"}]},
    ]
    assert (
        finish_name(only(await client.generate_completion(FLASH_3, request)).finish_reason)
        == "STOP"
    )
