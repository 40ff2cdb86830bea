"""What the client over Google's retired SDK hears from Gemini."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.core.gemini_answers import block_name, finish_name, modality_name
from ai_proxy_service.core.interfaces import EmbedOptions
from ai_proxy_service.services.gemini_sdk import SdkGeminiClient
from simulator.wire_client import FLASH_3, FLASH_25, WireClient, body, function
from support.processes import ServiceProcess
from support.sdk_bench import chunks_of, connected, only, said, text_of

EMBEDDING = "gemini-embedding-001"


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


@pytest.mark.parametrize("model", [FLASH_25, FLASH_3])
async def test_calls_keep_their_ids_signatures_and_whole_numbers(
    client: SdkGeminiClient, model: str
) -> None:
    request = body(
        '[[sim call=get_weather,get_weather args="{\\"days\\": 3, \\"id\\": 9007199254740993}"]]',
        tools=[{"functionDeclarations": [function()]}],
    )

    whole = said(await client.generate_completion(model, request))
    chunks, error = await chunks_of(client, model, request)

    assert error is None
    streamed = [part for chunk in chunks for part in said(chunk)]
    for calls in (whole, [part for part in streamed if part.function_call]):
        assert len(calls) == 2
        for part in calls:
            assert part.function_call is not None
            assert part.function_call.name == "get_weather"
            assert part.function_call.args == {"days": 3, "id": 9007199254740993}
            assert isinstance(part.function_call.args["days"], int)
            assert bool(part.function_call.id) == (model == FLASH_3)
        assert calls[0].thought_signature


async def test_a_stream_comes_chunk_by_chunk_with_exact_usage(client: SdkGeminiClient) -> None:
    chunks, error = await chunks_of(
        client, FLASH_25, body("[[sim tokens=9 thoughts=5 tool_prompt=7]] hi")
    )

    assert error is None
    assert len([chunk for chunk in chunks if text_of(chunk)]) == 9
    assert finish_name(only(chunks[-1]).finish_reason) == "STOP"
    usage = chunks[-1].usage_metadata
    assert usage is not None
    assert usage.candidates_token_count == 9
    assert usage.thoughts_token_count == 5
    assert usage.tool_use_prompt_token_count == 7
    assert usage.prompt_tokens_details is not None
    assert modality_name(usage.prompt_tokens_details[0].modality) == "TEXT"


async def test_each_chunk_is_there_before_the_next_one(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    """The gate lets a token through only when the one before it has been read."""
    request = body("[[sim tokens=4 thoughts=0 gate=sdk]] hi")
    stream = await client.generate_completion_stream(FLASH_25, request)
    async with aclosing(stream):
        for _ in range(4):
            gemini.control("POST", "gates/sdk", json={"tokens": 1})
            assert text_of((await stream.receive())[0])
    gemini.control("DELETE", "gates/sdk")


async def test_a_stream_that_is_closed_is_broken_off(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    request = body("[[sim tokens=50 thoughts=0 stall_after=1]] hi")
    stream = await client.generate_completion_stream(FLASH_25, request)
    assert await stream.receive()

    await stream.aclose()

    query = {"count": 1, "ended": "true"}
    (seen,) = gemini.control("GET", "requests", params=query)["requests"]
    assert seen["state"] == "disconnected"


async def test_alternatives_come_with_their_index(client: SdkGeminiClient) -> None:
    request = body("hi", generationConfig={"candidateCount": 3})

    answer = await client.generate_completion(FLASH_25, request)
    chunks, error = await chunks_of(client, FLASH_25, request)

    assert [candidate.index for candidate in answer.candidates or ()] == [0, 1, 2]
    assert error is None
    seen = {candidate.index for chunk in chunks for candidate in chunk.candidates or ()}
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "SAFETY", "UNEXPECTED_TOOL_CALL", "BRAND_NEW"])
async def test_reasons_for_an_end_are_names_even_new_ones(
    client: SdkGeminiClient, reason: str
) -> None:
    """Also in streams whose chunks have no parts at all, on which the SDK's own reader fails."""
    request = body(f"[[sim finish={reason} empty_candidate]]")

    answer = await client.generate_completion(FLASH_25, request)
    chunks, error = await chunks_of(client, FLASH_25, request)

    assert finish_name(only(answer).finish_reason) == reason
    assert error is None
    assert finish_name(only(chunks[-1]).finish_reason) == reason


async def test_a_blocked_prompt_is_an_answer(client: SdkGeminiClient) -> None:
    request = body('[[sim block=PROHIBITED_CONTENT block_message="not this"]]')

    answer = await client.generate_completion(FLASH_25, request)
    chunks, error = await chunks_of(client, FLASH_25, request)

    assert error is None
    for blocked in (answer, chunks[-1]):
        assert not blocked.candidates
        assert blocked.prompt_feedback is not None
        assert block_name(blocked.prompt_feedback.block_reason) == "PROHIBITED_CONTENT"
        assert blocked.prompt_feedback.block_reason_message == "not this"


async def test_tokens_are_counted_as_billed_with_tools_and_instructions(
    client: SdkGeminiClient,
) -> None:
    plain = body("Hello, world!")
    full = {
        **plain,
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "tools": [{"functionDeclarations": [function()]}],
    }

    answer = await client.generate_completion(FLASH_25, full)

    assert answer.usage_metadata is not None
    assert await client.count_tokens(FLASH_25, plain) == 5
    assert await client.count_tokens(FLASH_25, full) == answer.usage_metadata.prompt_token_count > 5


async def test_texts_are_embedded_in_their_order_over_batches(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    texts = [f"text {number % 3}" for number in range(101)]

    embeddings = await client.embed(EMBEDDING, texts, EmbedOptions(12, "RETRIEVAL_QUERY"))

    assert [len(vector) for vector in embeddings.vectors] == [12] * 101
    assert embeddings.vectors[0] == embeddings.vectors[3] != embeddings.vectors[1]
    assert embeddings.prompt_tokens is None
    batches = gemini.control("GET", "requests")["requests"]
    assert [len(batch["body"]["requests"]) for batch in batches] == [100, 1]
    assert batches[0]["body"]["requests"][0]["taskType"] == 1
    assert len((await client.embed(EMBEDDING, ["a"], EmbedOptions())).vectors[0]) == 3072


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (EmbedOptions(task_type="CODE_RETRIEVAL_QUERY"), "google"),
        (EmbedOptions(dimensions=2**31), "dimensions"),
    ],
)
async def test_options_that_cannot_be_sent_are_refused(
    client: SdkGeminiClient, options: EmbedOptions, field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.embed(EMBEDDING, ["a"], options)
    assert caught.value.field == field


async def test_a_refused_embedding_is_geminis_error(client: SdkGeminiClient) -> None:
    with pytest.raises(GeminiError) as caught:
        await client.embed(EMBEDDING, ["a"], EmbedOptions(dimensions=4000))
    assert (caught.value.status, caught.value.reason) == (400, "INVALID_ARGUMENT")


async def test_models_that_generate_or_embed_are_listed(client: SdkGeminiClient) -> None:
    assert {FLASH_25, FLASH_3, EMBEDDING} <= {*await client.list_models()}


@pytest.mark.parametrize(
    ("directive", "status", "reason"),
    [("error=overloaded", 503, "UNAVAILABLE"), ("error=quota_minute", 429, "RESOURCE_EXHAUSTED")],
)
async def test_a_refusal_comes_as_it_was_sent_and_is_not_repeated(
    client: SdkGeminiClient, gemini: WireClient, directive: str, status: int, reason: str
) -> None:
    request = body(f"[[sim {directive}]]")
    with pytest.raises(GeminiError) as caught:
        await client.generate_completion(FLASH_25, request)
    chunks, error = await chunks_of(client, FLASH_25, request)

    assert chunks == []
    assert error is not None
    for refusal in (caught.value, error):
        assert (refusal.status, refusal.reason) == (status, reason)
        assert bool(refusal.detail("RetryInfo")) == (status == 429)
    assert len(gemini.control("GET", "requests")["requests"]) == 2


async def test_an_error_in_mid_stream_comes_after_the_text_before_it(
    client: SdkGeminiClient,
) -> None:
    chunks, error = await chunks_of(client, FLASH_25, body("[[sim thoughts=0 error_after=2]] hi"))

    assert len(chunks) == 2
    assert error is not None
    assert (error.status, error.reason) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("directive", ["cut_after=2", "garbage_after=2"])
async def test_a_stream_that_breaks_off_is_an_error_not_an_end(
    client: SdkGeminiClient, directive: str
) -> None:
    chunks, error = await chunks_of(client, FLASH_25, body(f"[[sim thoughts=0 {directive}]] hi"))

    assert len(chunks) == 2
    assert isinstance(error, GeminiUnreachableError)


async def test_a_wrong_key_is_told_as_gemini_tells_it(simulator_url: str) -> None:
    async with connected(simulator_url, "revoked") as client:
        with pytest.raises(GeminiError) as caught:
            await client.generate_completion(FLASH_25, body("hi"))
    assert caught.value.status == 400
    assert "revoked" not in str(caught.value)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with connected("http://127.0.0.1:9") as client:
        with pytest.raises(GeminiUnreachableError):
            await client.generate_completion(FLASH_25, body("hi"))


async def test_a_busy_client_says_so_at_once_and_the_event_loop_goes_on(
    client: SdkGeminiClient, gemini: WireClient
) -> None:
    held = [
        asyncio.ensure_future(
            client.generate_completion(FLASH_25, body("[[sim tokens=1 gate=busy]] hi"))
        )
        for _ in range(4)
    ]
    await asyncio.to_thread(gemini.control, "GET", "gates/busy", params={"waiting": 4})

    with pytest.raises(GeminiUnreachableError, match="busy"):
        await client.count_tokens(FLASH_25, body("hi"))

    await asyncio.to_thread(gemini.control, "DELETE", "gates/busy")
    assert all(text_of(answer) for answer in await asyncio.gather(*held))
