# mypy: disable-error-code="import-not-found"
# LlamaIndex lives in an environment of its own: it still needs openai 2.
"""Checks with LlamaIndex."""

from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from clients.frameworks.harness import (
    API_KEY,
    BASE_URL,
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


class Place(BaseModel):
    """A place."""

    city: str
    people: int


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"3 degrees in {city}"


def get_time(zone: str) -> str:
    """Tell the time in a zone."""
    return f"noon in {zone}"


TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]


def model(name: str, **options: Any) -> Any:
    """Return the chat model."""
    return OpenAILike(
        model=name,
        api_base=BASE_URL,
        api_key=API_KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        **options,
    )


def second_turn(llm: Any, name: str, response: Any, history: list[Any]) -> None:
    """Answer the calls of a response, ask again, and check what Gemini got back."""
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=True)
    by_name = {tool.metadata.name: tool for tool in TOOLS}
    history.append(response.message)
    for call in calls:
        output = by_name[call.tool_name](**call.tool_kwargs)
        history.append(
            ChatMessage(
                role="tool",
                content=str(output),
                additional_kwargs={"tool_call_id": call.tool_id},
            )
        )
    answer = llm.chat_with_tools(TOOLS, chat_history=history)
    assert answer.message.content, answer
    sent = call_parts(SIMULATOR.bodies()[-1])
    assert [part["functionCall"]["name"] for part in sent] == [call.tool_name for call in calls]
    if name != FLASH_25:
        assert sent[0]["thoughtSignature"], sent
        assert sent[0]["thoughtSignature"] != SENTINEL, sent


@check("16 a tool is selected and its result taken")
def tool_loop() -> None:
    for name in (FLASH_25, FLASH_3, FLASH_38):
        llm = model(name)
        history = [ChatMessage(role="user", content=f"Oslo {WEATHER_CALL}")]
        response = llm.chat_with_tools(TOOLS, chat_history=history)
        (call,) = llm.get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Oslo"})
        second_turn(llm, name, response, history)


@check("16 two streamed calls are both kept")
def streamed_calls() -> None:
    for name in (FLASH_25, FLASH_38):
        llm = model(name)
        order = "both [[sim call=get_weather,get_time]]"
        history = [ChatMessage(role="user", content=order)]
        *_, response = llm.stream_chat_with_tools(
            TOOLS, chat_history=history, allow_parallel_tool_calls=True
        )
        calls = llm.get_tool_calls_from_response(response)
        assert [call.tool_name for call in calls] == ["get_weather", "get_time"]
        assert len({call.tool_id for call in calls}) == 2
        second_turn(llm, name, response, history)


@check("16 structured prediction")
def structured() -> None:
    for name in (FLASH_25, FLASH_38):
        for by_schema in (False, True):
            llm = model(name, should_use_structured_outputs=by_schema)
            place = llm.as_structured_llm(Place).complete("Tell me of Oslo").raw
            assert isinstance(place, Place), place


@check("34 thinking is a block of its own")
def thinking() -> None:
    order = 'think [[sim thoughts=12 answer="so be it"]]'
    llm = model(FLASH_38, reasoning_effort="low")
    response = llm.chat([ChatMessage(role="user", content=order)])
    assert response.message.content == "so be it", response.message
    blocks = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    assert blocks, response.message.blocks
    assert blocks[0].content
    *_, last = llm.stream_chat([ChatMessage(role="user", content=order)])
    assert last.message.content == "so be it", last.message


@check("58 embeddings")
def embeddings() -> None:
    client = OpenAILikeEmbedding(
        model_name="gemini-embedding-001", api_base=BASE_URL, api_key=API_KEY, max_retries=0
    )
    texts = ["one", "two", "one"]
    one, two, again = client.get_text_embedding_batch(texts)
    assert len(one) == 3072
    assert one == again
    assert one != two
    assert client.get_query_embedding("one") == one


@check("completions of a model that is not said to chat")
def completion() -> None:
    llm = OpenAILike(model=FLASH_25, api_base=BASE_URL, api_key=API_KEY, max_retries=0)
    assert llm.complete('say [[sim answer="one two"]]').text == "one two"
    *_, last = llm.stream_complete('say [[sim answer="one two"]]')
    assert last.text == "one two"


if __name__ == "__main__":
    run_all()
