# mypy: disable-error-code="import-not-found"
# The Agents SDK lives in an environment of its own: it needs older packages than the services.
"""Checks with OpenAI's Agents SDK over its chat completions model."""

from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from clients.frameworks.harness import (
    FLASH_3,
    FLASH_25,
    FLASH_38,
    SENTINEL,
    SIMULATOR,
    SMART,
    WEATHER_CALL,
    call_parts,
    check,
    run_all,
)

set_tracing_disabled(disabled=True)
cities: list[str] = []


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    cities.append(city)
    return f"3 degrees in {city}"


class Place(BaseModel):
    city: str
    people: int


def agent(name: str, client: AsyncOpenAI, **options: Any) -> Any:
    """Return an agent that may ask for the weather."""
    return Agent(
        name="Reporter",
        instructions="Be brief.",
        model=OpenAIChatCompletionsModel(model=name, openai_client=client),
        tools=[function_tool(get_weather)],
        **options,
    )


async def loop(name: str, *, streamed: bool) -> None:
    """Run an agent through a call to its end, and check what Gemini got back."""
    SIMULATOR.forget()
    cities.clear()
    async with AsyncOpenAI(max_retries=0, timeout=60) as client:
        question = f"Oslo {WEATHER_CALL}"
        if streamed:
            run = Runner.run_streamed(agent(name, client), question)
            async for _event in run.stream_events():
                pass
        else:
            run = await Runner.run(agent(name, client), question)
    assert cities == ["Oslo"], cities
    assert "3 degrees" in run.final_output, run.final_output
    _, body = SIMULATOR.bodies()
    (sent,) = call_parts(body)
    if name != FLASH_25:
        assert sent["thoughtSignature"], sent
        assert sent["thoughtSignature"] != SENTINEL, sent
    (answered,) = call_parts(body, "functionResponse")
    assert answered["functionResponse"]["name"] == "get_weather"


@check("14 a loop of two steps under Gemini's names")
async def gemini_names() -> None:
    for name in (FLASH_25, FLASH_3, FLASH_38):
        await loop(name, streamed=False)


@check("14 a streamed loop of two steps under Gemini's names")
async def gemini_names_streamed() -> None:
    for name in (FLASH_25, FLASH_3, FLASH_38):
        await loop(name, streamed=True)


@check("14 a loop of two steps under another name")
async def alias() -> None:
    await loop(SMART, streamed=False)


@check("14 a streamed loop of two steps under another name")
async def alias_streamed() -> None:
    await loop(SMART, streamed=True)


@check("14 an output type with tools, and usage if asked for")
async def output_type() -> None:
    async with AsyncOpenAI(max_retries=0, timeout=60) as client:
        for name in (FLASH_25, FLASH_38):
            asking = agent(
                name,
                client,
                output_type=Place,
                model_settings=ModelSettings(include_usage=True, parallel_tool_calls=False),
            )
            order = 'Tell me [[sim answer="{\\"city\\":\\"Oslo\\",\\"people\\":3}"]]'
            run = Runner.run_streamed(asking, order)
            async for _event in run.stream_events():
                pass
            assert run.final_output == Place(city="Oslo", people=3)
            assert run.context_wrapper.usage.total_tokens > 0


if __name__ == "__main__":
    run_all()
