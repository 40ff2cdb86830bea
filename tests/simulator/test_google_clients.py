"""Google's own clients, the current one and the retired one, work against the simulator."""

import json
import warnings
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from simulator.wire_client import FLASH_3, FLASH_25, KEY, function

with warnings.catch_warnings():
    # The retired client announces its own end when it is imported.
    warnings.simplefilter("ignore", FutureWarning)
    import google.generativeai as retired
    from google.api_core import exceptions


@pytest.fixture
def client(simulator_url: str) -> genai.Client:
    options = types.HttpOptions(base_url=simulator_url, api_version="v1beta")
    return genai.Client(api_key=KEY, http_options=options)


@pytest.fixture
def old_client(simulator_url: str) -> Any:
    retired.configure(api_key=KEY, transport="rest", client_options={"api_endpoint": simulator_url})
    return retired


def test_genai_generates(client: genai.Client) -> None:
    answer = client.models.generate_content(model=FLASH_3, contents="Hello harbour")
    assert "Hello harbour" in (answer.text or "")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.thoughts_token_count
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP


def test_genai_streams_token_by_token(client: genai.Client) -> None:
    chunks = list(
        client.models.generate_content_stream(model=FLASH_25, contents="[[sim tokens=9]] Hello")
    )
    assert len(chunks) == 9
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata.candidates_token_count == 9


# The client subclasses aiohttp's session wherever aiohttp is installed.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_genai_streams_asynchronously(client: genai.Client) -> None:
    stream = await client.aio.models.generate_content_stream(
        model=FLASH_3, contents="[[sim tokens=5]] Hello"
    )
    texts = [chunk.text async for chunk in stream if chunk.text]
    assert len(texts) == 5
    await client.aio.aclose()


@pytest.mark.parametrize("model", [FLASH_25, FLASH_3])
def test_genai_calls_functions_by_itself(client: genai.Client, model: str) -> None:
    """The client calls the Python function and sends the result, with the signature."""
    asked: list[str] = []

    def lookup_label(name: str) -> dict[str, str]:
        """Find a label."""
        asked.append(name)
        return {"label": "crimson"}

    config = types.GenerateContentConfig(tools=[lookup_label])
    answer = client.models.generate_content(
        model=model, contents="Use lookup_label, please", config=config
    )
    assert asked == ["sample name"]
    assert "crimson" in (answer.text or "")


def test_genai_reads_structured_answers_and_thoughts(client: genai.Client) -> None:
    config = types.GenerateContentConfig(
        response_mime_type="application/json",
        response_schema={"type": "ARRAY", "items": {"type": "INTEGER"}},
        thinking_config=types.ThinkingConfig(include_thoughts=True),
    )
    answer = client.models.generate_content(model=FLASH_3, contents="Numbers", config=config)
    assert json.loads(answer.text or "") == [1]


def test_genai_counts_and_embeds(client: genai.Client) -> None:
    counted = client.models.count_tokens(model=FLASH_25, contents="Hello, world!")
    assert counted.total_tokens == 5
    embedded = client.models.embed_content(
        model="gemini-embedding-001",
        contents=["a", "b"],
        config=types.EmbedContentConfig(output_dimensionality=12),
    )
    assert embedded.embeddings is not None
    assert [len(embedding.values or []) for embedding in embedded.embeddings] == [12, 12]


def test_genai_lists_models_over_pages(client: genai.Client) -> None:
    names = [model.name for model in client.models.list(config={"page_size": 5})]
    assert len(names) == len(set(names))
    assert {f"models/{FLASH_25}", f"models/{FLASH_3}", "models/gemini-embedding-2"} <= set(names)
    assert client.models.get(model=FLASH_25).output_token_limit == 65_536


def test_genai_sees_errors_before_and_within_a_stream(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model="gemini-9", contents="Hi")
    assert refused.value.code == 404
    stream = client.models.generate_content_stream(
        model=FLASH_25, contents="[[sim error_after=2 error_form=data]]"
    )
    with pytest.raises(errors.ServerError):
        list(stream)


def test_the_retired_client_generates(old_client: Any) -> None:
    answer = old_client.GenerativeModel(FLASH_25).generate_content("Hello harbour")
    assert "Hello harbour" in answer.text
    assert answer.candidates[0].finish_reason.name == "STOP"
    usage = answer.usage_metadata
    assert usage.total_token_count > usage.prompt_token_count + usage.candidates_token_count


def test_the_retired_client_streams_the_json_array(old_client: Any) -> None:
    chunks = list(
        old_client.GenerativeModel(FLASH_25).generate_content("Hello [[sim tokens=9]]", stream=True)
    )
    assert len(chunks) == 9
    assert chunks[-1].usage_metadata.candidates_token_count == 9


def test_the_retired_client_calls_functions(old_client: Any) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    declared = {**function(), "parameters": schema}
    del declared["parametersJsonSchema"]
    model = old_client.GenerativeModel(FLASH_25, tools=[{"function_declarations": [declared]}])
    chat = model.start_chat()
    call = chat.send_message("Use get_weather").candidates[0].content.parts[0].function_call
    assert call.name == "get_weather"
    assert dict(call.args) == {"city": "sample city"}
    result = old_client.protos.FunctionResponse(name=call.name, response={"sky": "crimson"})
    answer = chat.send_message(old_client.protos.Part(function_response=result))
    assert "crimson" in answer.text


def test_the_retired_client_counts_embeds_and_lists(old_client: Any) -> None:
    assert old_client.GenerativeModel(FLASH_25).count_tokens("Hello, world!").total_tokens == 5
    model = "models/gemini-embedding-001"
    one = old_client.embed_content(model=model, content="a", output_dimensionality=12)
    many = old_client.embed_content(model=model, content=["a", "b"], output_dimensionality=12)
    assert many["embedding"][0] == one["embedding"]
    assert f"models/{FLASH_25}" in {entry.name for entry in old_client.list_models(page_size=4)}


def test_the_retired_client_sees_a_blocked_prompt_and_a_refusal(old_client: Any) -> None:
    model = old_client.GenerativeModel(FLASH_25)
    blocked = model.generate_content("[[sim block=SAFETY]]")
    assert blocked.prompt_feedback.block_reason.name == "SAFETY"
    with pytest.raises(exceptions.ServiceUnavailable):
        model.generate_content("[[sim status=503]]", request_options={"retry": None})
