# mypy: disable-error-code="import-not-found"
# LangChain lives in an environment of its own: it needs older packages than the services.
"""Checks with LangChain."""

import json
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from clients.frameworks.harness import (
    FLASH_3,
    FLASH_25,
    FLASH_38,
    SENTINEL,
    SIMULATOR,
    WEATHER_CALL,
    call_parts,
    check,
    run_all,
)

EMBEDDING = "gemini-embedding-001"


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"3 degrees in {city}"


weather.__name__ = "get_weather"


def clock(zone: str) -> str:
    """Tell the time in a zone."""
    return f"noon in {zone}"


clock.__name__ = "get_time"


class Place(BaseModel):
    """A place."""

    city: str
    people: int


def model(name: str = FLASH_25, **options: Any) -> Any:
    """Return the chat model."""
    return ChatOpenAI(model=name, max_retries=0, timeout=60, **options)


@check("06 a stream's usage is that of the whole answer")
def usage() -> None:
    order = "think [[sim thoughts=7 tokens=9]]"
    options = {"reasoning_effort": "low"}
    whole = model(**options).invoke(order)
    streamed = None
    for chunk in model(stream_usage=True, **options).stream(order):
        streamed = chunk if streamed is None else streamed + chunk

    assert streamed is not None
    assert streamed.content == whole.content
    assert whole.usage_metadata["output_tokens"] == 16
    assert streamed.usage_metadata == whole.usage_metadata


@check("06 an async stream without usage ends well")
async def async_stream() -> None:
    text = ""
    async for chunk in model().astream('say [[sim answer="one two"]]'):
        text += chunk.content
    assert text == "one two"


@check("09 parallel calls are streamed one by one")
def parallel_calls() -> None:
    for name in (FLASH_25, FLASH_38):
        bound = model(name).bind_tools([weather, clock])
        message = None
        for chunk in bound.stream("[[sim call=get_weather,get_time]]"):
            message = chunk if message is None else message + chunk

        assert message is not None
        assert [call["name"] for call in message.tool_calls] == ["get_weather", "get_time"]
        assert len({call["id"] for call in message.tool_calls}) == 2
        assert not message.invalid_tool_calls
        assert message.response_metadata["finish_reason"] == "tool_calls"


def tool_loop(name: str, *, streamed: bool) -> list[dict[str, Any]]:
    """Ask, answer the call, ask again; return what Gemini was asked."""
    SIMULATOR.forget()
    bound = model(name).bind_tools([weather])
    history: list[Any] = [HumanMessage(f"Oslo {WEATHER_CALL}")]
    if streamed:
        message: Any = None
        for chunk in bound.stream(history):
            message = chunk if message is None else message + chunk
    else:
        message = bound.invoke(history)
    (call,) = message.tool_calls
    assert call["args"] == {"city": "Oslo"}
    history += [message, ToolMessage(weather(**call["args"]), tool_call_id=call["id"])]

    answer = bound.invoke(history)

    assert isinstance(answer, AIMessage)
    assert answer.response_metadata["finish_reason"] == "stop"
    assert "3 degrees" in answer.content
    return SIMULATOR.bodies()


@check("12 a signature that the client drops is remembered")
def signatures() -> None:
    for name in (FLASH_3, FLASH_38):
        for streamed in (False, True):
            _, body = tool_loop(name, streamed=streamed)
            (sent,) = call_parts(body)
            assert sent["thoughtSignature"], sent
            assert sent["thoughtSignature"] != SENTINEL, sent
            assert sent["functionCall"]["args"] == {"city": "Oslo"}


@check("12 a model that needs no signature")
def no_signatures() -> None:
    assert len(tool_loop(FLASH_25, streamed=False)) == 2


def structured(method: str) -> None:
    """Ask for an object in one of LangChain's ways, on both generations."""
    for name in (FLASH_25, FLASH_38):
        order = "Tell me of Oslo as JSON"
        if method == "json_mode":
            text = json.dumps({"city": "Oslo", "people": 3}).replace('"', '\\"')
            order = f'{order} [[sim answer="{text}"]]'
        place = model(name).with_structured_output(Place, method=method).invoke(order)
        assert isinstance(place, Place), place


@check("24 structured output by json_schema")
def by_schema() -> None:
    structured("json_schema")


@check("24 structured output by function_calling")
def by_call() -> None:
    structured("function_calling")


@check("24 structured output by json_mode")
def by_mode() -> None:
    structured("json_mode")


@check("59 token arrays are refused with the way out, which works")
def embeddings() -> None:
    texts = ["one fine day", "two"]
    refusal: openai.BadRequestError | None = None
    try:
        OpenAIEmbeddings(model=EMBEDDING, max_retries=0).embed_documents(texts)
    except openai.BadRequestError as error:
        refusal = error
    assert refusal is not None
    assert refusal.param == "input"
    assert "check_embedding_ctx_length=False" in refusal.message
    plain = OpenAIEmbeddings(model=EMBEDDING, check_embedding_ctx_length=False, max_retries=0)
    assert [len(vector) for vector in plain.embed_documents(texts)] == [3072, 3072]


if __name__ == "__main__":
    run_all()
