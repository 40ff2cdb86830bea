"""The client over Google's retired SDK, and what tests ask about its answers."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from ai_proxy_service.core.gemini import Candidate, GeminiError, GenerateContentResponse, Part
from ai_proxy_service.services.gemini_sdk import SdkGeminiClient

CALL = {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Oslo", "days": 2}}}
RESULT = {"functionResponse": {"id": "c1", "name": "get_weather", "response": {"sky": "crimson"}}}


@asynccontextmanager
async def connected(url: str, key: str = "AIza-one") -> AsyncIterator[SdkGeminiClient]:
    """Make a client with four threads; there can only be one at a time."""
    client = SdkGeminiClient(url, key, threads=4)
    try:
        yield client
    finally:
        await client.aclose()


def only(answer: GenerateContentResponse) -> Candidate:
    """Return the only candidate."""
    assert answer.candidates is not None
    (candidate,) = answer.candidates
    return candidate


def said(answer: GenerateContentResponse) -> list[Part]:
    """Return the parts of all candidates."""
    return [
        part
        for candidate in answer.candidates or ()
        for part in (candidate.content and candidate.content.parts) or ()
    ]


def text_of(answer: GenerateContentResponse) -> str:
    """Return the text of all parts."""
    return "".join(part.text or "" for part in said(answer))


async def chunks_of(
    client: SdkGeminiClient, model: str, request: dict[str, Any]
) -> tuple[list[GenerateContentResponse], GeminiError | None]:
    """Return the chunks of a stream, and the error that ended it, if one did."""
    chunks: list[GenerateContentResponse] = []
    try:
        stream = await client.generate_completion_stream(model, request)
        async with aclosing(stream):
            while arrived := await stream.receive():
                chunks += arrived
            assert await stream.receive() == []
    except GeminiError as error:
        return chunks, error
    return chunks, None
