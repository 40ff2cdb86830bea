"""Gemini over its REST API with aiohttp: native async, every field kept.

https://ai.google.dev/api/generate-content, /api/tokens, /api/models
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
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
from ai_proxy_service.core.gemini_trouble import key_trouble_seconds
from ai_proxy_service.core.interfaces import Embeddings, EmbedOptions
from ai_proxy_service.services.gemini_embeddings import (
    decode_embeddings,
    embed_path,
    embed_requests,
    join_embeddings,
)
from ai_proxy_service.services.gemini_stream import StreamDecoder
from ai_proxy_service.services.gemini_wire import (
    decode_answer,
    decode_count,
    decode_error,
    decode_models,
    described,
)
from ai_proxy_service.services.key_pool import KeyPool
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
    """The default client.

    Args:
        session: the pool of connections.
        base_url: where Gemini's REST API is.
        keys: API keys.
        on_keys_set_aside: called with how many keys are not used, whenever that changes.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        keys: Sequence[str],
        on_keys_set_aside: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._session = session
        self._base_url = f"{base_url.rstrip('/')}/{API_VERSION}"
        self._keys = KeyPool(keys)
        self._on_keys_set_aside = on_keys_set_aside

    @classmethod
    def connect(
        cls,
        base_url: str,
        keys: Sequence[str],
        connections_max: int,
        on_keys_set_aside: Callable[[int], object] = lambda _count: None,
    ) -> Self:
        """Make a client with a connection pool of its own."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        return cls(session, base_url, keys, on_keys_set_aside)

    @property
    def unsupported(self) -> frozenset[str]:
        """See `GeminiClient`."""
        return frozenset()

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

    async def embed(self, model: str, texts: Sequence[str], options: EmbedOptions) -> Embeddings:
        """See `GeminiClient`."""
        bodies = list(embed_requests(model, texts, options))
        path = embed_path(model)
        calls = [asyncio.create_task(self._call("POST", path, body)) for body in bodies]
        try:
            answers = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
        return join_embeddings(
            [
                decode_embeddings(answer, len(body["requests"]))
                for answer, body in zip(answers, bodies, strict=True)
            ]
        )

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
        key = self._keys.take()
        # The key goes in a header: in the address it would end up in logs and error texts.
        headers = {**_JSON, "x-goog-api-key": key}
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
        trouble_seconds = key_trouble_seconds(error)
        if trouble_seconds is not None:
            error.other_key_may_help = self._keys.set_aside(key, trouble_seconds)
            self._tell_keys_set_aside()
            asyncio.get_running_loop().call_later(trouble_seconds, self._tell_keys_set_aside)
        _log.warning(
            "gemini_refused",
            path=path,
            status=error.status,
            reason=error.reason,
            request_id=current_request_id(),
        )
        raise error

    def _tell_keys_set_aside(self) -> None:
        self._on_keys_set_aside(self._keys.count_set_aside())

    async def aclose(self) -> None:
        """See `GeminiClient`."""
        await self._session.close()


class RestStream:
    """A stream of chunks, read as the bytes arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.received_bytes = 0
        self._response = response
        self._decoder = StreamDecoder()
        self._cut: GeminiError | None = None
        self._ended = False

    async def receive(self) -> list[GenerateContentResponse]:
        """See `GeminiStream`."""
        while True:
            failure = self._decoder.failure or self._cut
            if failure is not None:
                raise failure
            if self._ended:
                return []
            received = await self._read()
            self.received_bytes += len(received)
            if received:
                chunks = self._decoder.feed(received)
            elif self._cut is None:
                self._ended = True
                chunks = self._decoder.finish()
            else:
                chunks = []
            if chunks:
                return chunks

    async def _read(self) -> bytes:
        """Return the next bytes; what had arrived before a cut as well, and only then the cut."""
        content = self._response.content
        try:
            async with _as_gemini_errors():
                return await content.readany()
        except GeminiError as error:
            self._cut = error
            # aiohttp has no public way to what it holds then, and Google charges for it.
            with contextlib.suppress(TimeoutError):
                return content._read_nowait(-1)  # noqa: SLF001
            return b""

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
        raise _unreachable(error, timed_out=True) from None
    except (aiohttp.ClientError, OSError) as error:
        # Its text may quote what came: a traceback must not repeat it.
        raise _unreachable(error) from None


def _unreachable(error: Exception, *, timed_out: bool = False) -> GeminiUnreachableError:
    what = described(error)
    _log.warning("gemini_unreachable", error=what)
    return GeminiUnreachableError(what, timed_out=timed_out)
