"""The REST client against a server that answers as Gemini does, oddities included."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.services.gemini_rest import RestGeminiClient
from support.live_server import live_server

BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
CHUNK = (
    b'data: {"candidates": [{"content": {"parts": [{"text": "hi"}],"role": "model"}}],'
    b'"usageMetadata": {"promptTokenCount": 1,"totalTokenCount": 1}}\r\n\r\n'
)
BARE_ERROR = (
    b'{\n  "error": {\n    "code": 503,\n    "message": "m",\n    "status": "UNAVAILABLE"\n  }\n}\n'
)
EVENT_STREAM = "text/event-stream"


class Upstream:
    """Gives the prepared answer and remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 200
        self.pieces: list[bytes] = []
        self.media_type = EVENT_STREAM
        self.breaks_off = False
        self.headers: dict[str, str] = {}
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)

        async def body() -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece
            if self.breaks_off:
                raise ConnectionResetError

        return StreamingResponse(body(), self.status, self.headers, self.media_type)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def upstream_url(upstream: Upstream) -> Iterator[str]:
    with live_server(upstream.app) as url:
        yield url


@asynccontextmanager
async def connected(url: str, *keys: str) -> AsyncIterator[RestGeminiClient]:
    client = RestGeminiClient.connect(url, keys or ("AIza-one",), 0)
    try:
        yield client
    finally:
        await client.aclose()


async def read_stream(url: str) -> tuple[list[str], GeminiError | None]:
    """Return the texts of a stream, and the error that ended it, if one did."""
    texts: list[str] = []
    async with connected(url) as client:
        try:
            stream = await client.generate_completion_stream("gemini-2.5-flash", BODY)
            async with aclosing(stream):
                while chunks := await stream.receive():
                    for chunk in chunks:
                        assert chunk.candidates
                        assert chunk.candidates[0].content
                        assert chunk.candidates[0].content.parts
                        texts += [part.text or "" for part in chunk.candidates[0].content.parts]
        except GeminiError as error:
            return texts, error
    return texts, None


async def test_keys_are_used_in_turn_and_never_in_the_address(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.media_type, upstream.pieces = "application/json", [b'{"totalTokens": 7}']

    async with connected(upstream_url, "AIza-one", "AIza-two") as client:
        counts = [await client.count_tokens("gemini-2.5-flash", BODY) for _ in range(3)]

    assert counts == [7, 7, 7]
    assert [request.headers["x-goog-api-key"] for request in upstream.requests] == [
        "AIza-one",
        "AIza-two",
        "AIza-one",
    ]
    assert all("AIza" not in str(request.url) for request in upstream.requests)


async def test_a_stream_is_read_however_its_bytes_arrive(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.pieces = [(CHUNK * 3)[start : start + 7] for start in range(0, len(CHUNK) * 3, 7)]

    assert await read_stream(upstream_url) == (["hi", "hi", "hi"], None)


async def test_an_error_before_a_stream_is_told_by_its_status_not_its_type(
    upstream: Upstream, upstream_url: str
) -> None:
    """Gemini sends plain JSON errors as text/event-stream."""
    upstream.status, upstream.pieces = 429, [BARE_ERROR]

    texts, error = await read_stream(upstream_url)

    assert texts == []
    assert error is not None
    assert (error.status, error.reason) == (429, "UNAVAILABLE")


@pytest.mark.parametrize(
    "tail",
    [BARE_ERROR, b"data: " + BARE_ERROR.replace(b"\n", b"") + b"\r\n\r\n"],
    ids=["bare", "data"],
)
async def test_an_error_in_mid_stream_comes_after_the_text_before_it(
    upstream: Upstream, upstream_url: str, tail: bytes
) -> None:
    upstream.pieces = [CHUNK, tail]

    texts, error = await read_stream(upstream_url)

    assert texts == ["hi"]
    assert error is not None
    assert (error.status, error.reason) == (503, "UNAVAILABLE")


async def test_a_stream_that_breaks_off_is_an_error_not_an_end(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.pieces, upstream.breaks_off = [CHUNK], True

    texts, error = await read_stream(upstream_url)

    assert texts == ["hi"]
    assert isinstance(error, GeminiUnreachableError)


async def test_what_is_no_json_is_an_error(upstream: Upstream, upstream_url: str) -> None:
    upstream.pieces = [b"data: <html>\r\n\r\n"]

    _, error = await read_stream(upstream_url)

    assert error is not None
    assert error.status == 502


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"[" + BARE_ERROR + b"]", "UNAVAILABLE"), (b"<html>Bad gateway</html>", "UNKNOWN")],
)
async def test_errors_of_other_forms_are_understood(
    upstream: Upstream, upstream_url: str, body: bytes, reason: str
) -> None:
    upstream.status, upstream.pieces, upstream.media_type = 502, [body], "text/html"

    async with connected(upstream_url) as client:
        with pytest.raises(GeminiError) as caught:
            await client.generate_completion("gemini-2.5-flash", BODY)

    assert (caught.value.status, caught.value.reason) == (502, reason)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with connected("http://127.0.0.1:9") as client:
        with pytest.raises(GeminiUnreachableError):
            await client.list_models()


async def test_all_pages_of_models_are_read(upstream: Upstream, upstream_url: str) -> None:
    upstream.media_type = "application/json"
    upstream.pieces = [
        b'{"models": [{"name": "models/a", "supportedGenerationMethods": ["generateContent"]},',
        b'{"name": "models/b", "supportedGenerationMethods": ["embedContent"]}]}',
    ]

    async with connected(upstream_url) as client:
        assert await client.list_models() == ["a", "b"]


async def test_a_redirect_is_not_followed_as_the_key_would_go_along(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.status, upstream.headers = 307, {"location": f"{upstream_url}/elsewhere"}

    async with connected(upstream_url) as client:
        with pytest.raises(GeminiError) as caught:
            await client.generate_completion("gemini-2.5-flash", BODY)

    assert caught.value.status == 307
    assert len(upstream.requests) == 1


async def test_it_tells_how_many_keys_are_set_aside_and_when_they_come_back(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.status, upstream.media_type = 429, "application/json"
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Please retry in 0.1s."}
    upstream.pieces = [msgspec.json.encode({"error": error})]
    told: list[int] = []
    back = asyncio.Event()

    def tell(count: int) -> None:
        told.append(count)
        if not count:
            back.set()

    client = RestGeminiClient.connect(upstream_url, ["AIza-one", "AIza-two"], 0, tell)
    with pytest.raises(GeminiError):
        await client.count_tokens("gemini-2.5-flash", BODY)
    async with asyncio.timeout(30):
        await back.wait()
    await client.aclose()

    assert told == [1, 0]
