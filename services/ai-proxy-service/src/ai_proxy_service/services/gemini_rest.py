"""Gemini over its REST API with aiohttp: native async, every field kept.

https://ai.google.dev/api/generate-content, /api/tokens, /api/models
"""

import itertools
from collections.abc import Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import aiohttp
import msgspec

from ai_proxy_service.core.gemini import (
    GeminiError,
    GeminiUnreachableError,
    GenerateContentBody,
    GenerateContentResponse,
)
from ai_proxy_service.services.gemini_wire import (
    decode_answer,
    decode_count,
    decode_error,
    decode_models,
)
from ai_proxy_service.services.sse import SseDecoder
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_log = get_logger(__name__)

API_VERSION = "v1beta"
CONNECT_SECONDS_MAX = 10.0
# Gemini is silent for minutes while a model thinks without reporting it.
SILENCE_SECONDS_MAX = 300.0
MODELS_PER_PAGE = 1000
_JSON = {"content-type": "application/json"}


class RestGeminiClient:
    """The default client. Keys are used in turn."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, keys: Sequence[str]) -> None:
        self._session = session
        self._base_url = f"{base_url.rstrip('/')}/{API_VERSION}"
        self._keys = itertools.cycle(keys)

    @classmethod
    def connect(cls, base_url: str, keys: Sequence[str], connections_max: int) -> Self:
        """Make a client with a connection pool of its own."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        return cls(session, base_url, keys)

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        """See `GeminiClient`."""
        return decode_answer(await self._call("POST", f"models/{model}:generateContent", body))

    async def generate_completion_stream(
        self, model: str, body: GenerateContentBody
    ) -> "RestStream":
        """See `GeminiClient`."""
        path = f"models/{model}:streamGenerateContent?alt=sse"
        response = await self._open("POST", path, body)
        return RestStream(response)

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        """See `GeminiClient`."""
        request = {"generateContentRequest": {"model": f"models/{model}", **body}}
        return decode_count(await self._call("POST", f"models/{model}:countTokens", request))

    async def list_models(self) -> list[str]:
        """See `GeminiClient`."""
        found: list[str] = []
        token = ""
        while True:
            path = f"models?pageSize={MODELS_PER_PAGE}" + (f"&pageToken={token}" if token else "")
            names, token = decode_models(await self._call("GET", path, None))
            found += names
            if not token:
                return found

    async def _call(self, method: str, path: str, body: GenerateContentBody | None) -> bytes:
        response = await self._open(method, path, body)
        async with response, _as_gemini_errors():
            return await response.read()

    async def _open(
        self, method: str, path: str, body: GenerateContentBody | None
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, which has begun with a status of 200."""
        # The key goes in a header: in the address it would end up in logs and error texts.
        headers = {**_JSON, "x-goog-api-key": next(self._keys)}
        data = None if body is None else msgspec.json.encode(body)
        async with _as_gemini_errors():
            response = await self._session.request(
                method,
                f"{self._base_url}/{path}",
                data=data,
                headers=headers,
                # Gemini never redirects, and the key must not follow to another host.
                allow_redirects=False,
            )
            if response.status == HTTPStatus.OK:
                return response
            async with response:
                error = decode_error(response.status, await response.read())
        _log.warning(
            "gemini_refused",
            path=path,
            status=error.status,
            reason=error.reason,
            request_id=current_request_id(),
        )
        raise error

    async def aclose(self) -> None:
        """See `GeminiClient`."""
        await self._session.close()


class RestStream:
    """A stream of chunks, read as the bytes arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._decoder = SseDecoder()
        self._failure: GeminiError | None = None
        self._ended = False

    async def receive(self) -> list[GenerateContentResponse]:
        """See `GeminiStream`."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return []
            async with _as_gemini_errors():
                received = await self._response.content.readany()
            if received:
                events = self._decoder.feed(received)
            else:
                self._ended = True
                events = self._decoder.finish()
                self._failure = self._stray_error()
            chunks = self._decode(events)
            if chunks:
                return chunks

    def _decode(self, events: list[bytes]) -> list[GenerateContentResponse]:
        """Decode what came before an error; the error itself is raised next time."""
        chunks: list[GenerateContentResponse] = []
        for event in events:
            try:
                chunks.append(decode_answer(event))
            except GeminiError as error:
                self._failure = error
                break
        return chunks

    def _stray_error(self) -> GeminiError | None:
        stray = self._decoder.stray
        if not stray.strip():
            return self._failure
        error = decode_error(0, stray)
        return GeminiError(error.status or 502, error.reason, error.message, error.details)

    async def aclose(self) -> None:
        """See `GeminiStream`."""
        if self._ended:
            self._response.release()
        else:
            # Breaking the connection off is the only way to make the other side stop.
            self._response.close()


@asynccontextmanager
async def _as_gemini_errors() -> "AsyncIterator[None]":
    """Turn the transport's failures into ours."""
    try:
        yield
    except TimeoutError as error:
        raise _unreachable(error, timed_out=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception, *, timed_out: bool = False) -> GeminiUnreachableError:
    what = f"{type(error).__name__}: {error}"
    _log.warning("gemini_unreachable", error=what)
    return GeminiUnreachableError(what, timed_out=timed_out)
