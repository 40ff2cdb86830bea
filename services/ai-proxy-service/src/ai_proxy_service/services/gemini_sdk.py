"""Gemini through Google's `google-generativeai`, in threads of its own.

For those who must use the SDK. It is past its end of life: docs/decisions says what its messages
can't carry, and what becomes of that.
"""

import asyncio
import contextlib
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import google.generativeai as genai
import requests
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.generativeai import protos
from google.generativeai.client import get_default_generative_client
from requests.adapters import HTTPAdapter

from ai_proxy_service.core.gemini import (
    GeminiError,
    GeminiUnreachableError,
    GenerateContentBody,
    GenerateContentResponse,
)
from ai_proxy_service.core.interfaces import Embeddings, EmbedOptions
from ai_proxy_service.services.gemini_sdk_answer import ArrayReader
from ai_proxy_service.services.gemini_sdk_request import (
    LEFT_OUT,
    check_embed_options,
    to_sdk_request,
)
from ai_proxy_service.services.gemini_wire import (
    decode_answer,
    decode_count,
    decode_error,
    described,
)
from service_kit.daemon_threads import DaemonThreadExecutor, NoThreadFreeError
from service_kit.errors import ServiceError
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

CALL_SECONDS_MAX = 600.0
_READ_BYTES_MAX = 65_536
_METHODS = frozenset({"generateContent", "embedContent"})
# What a thread's last call received. The SDK's messages hold less: they forget the tokens of
# thinking and of tools, signatures, and reasons newer than they are.
_THREAD = threading.local()


class SdkGeminiClient:
    """Runs the SDK's blocking calls in an executor, one thread for each running call."""

    def __init__(self, base_url: str, key: str, *, threads: int) -> None:
        # The SDK has one global configuration, hence one key per process.
        genai.configure(
            api_key=key, transport="rest", client_options={"api_endpoint": base_url.rstrip("/")}
        )
        self._session = _prepared_session(threads)
        self._executor = DaemonThreadExecutor(threads, "gemini-sdk")

    @property
    def unsupported(self) -> frozenset[str]:
        """See `GeminiClient`."""
        return LEFT_OUT

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        """See `GeminiClient`.

        Raises:
            InvalidRequestError: the SDK can't say it.
        """

        def call() -> GenerateContentResponse:
            request = to_sdk_request(model, body)
            get_default_generative_client().generate_content(request, timeout=CALL_SECONDS_MAX)
            return decode_answer(_THREAD.response.content)

        return await self._run(call)

    async def generate_completion_stream(
        self, model: str, body: GenerateContentBody
    ) -> "SdkStream":
        """See `GeminiClient`.

        Raises:
            InvalidRequestError: the SDK can't say it.
        """
        stream = SdkStream(model, body)
        self._submit(stream.pump)
        try:
            await stream.opened()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        """See `GeminiClient`.

        Raises:
            InvalidRequestError: the SDK can't say it.
        """

        def call() -> int:
            request = protos.CountTokensRequest(
                model=f"models/{model}", generate_content_request=to_sdk_request(model, body)
            )
            get_default_generative_client().count_tokens(request, timeout=CALL_SECONDS_MAX)
            return decode_count(_THREAD.response.content)

        return await self._run(call)

    async def embed(self, model: str, texts: Sequence[str], options: EmbedOptions) -> Embeddings:
        """See `GeminiClient`.

        Raises:
            InvalidRequestError: the SDK can't say it.
        """
        check_embed_options(options)

        def call() -> Embeddings:
            answer = genai.embed_content(
                f"models/{model}",
                list(texts),
                task_type=options.task_type,
                output_dimensionality=options.dimensions,
                request_options={"timeout": CALL_SECONDS_MAX},
            )
            vectors: list[list[float]] = answer["embedding"]
            if len(vectors) != len(texts):
                raise GeminiError(502, "MALFORMED", f"{len(vectors)} vectors, not {len(texts)}")
            return Embeddings(vectors, None)

        return await self._run(call)

    async def list_models(self) -> list[str]:
        """See `GeminiClient`."""
        return await self._run(
            lambda: [
                model.name.removeprefix("models/")
                for model in genai.list_models()
                if _METHODS.intersection(model.supported_generation_methods)
            ]
        )

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(self._submit(call))
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may quote the request: not chained
            raise as_gemini_error(error) from None

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        try:
            return self._executor.submit(call)
        except NoThreadFreeError as error:
            _log.warning("gemini_sdk_threads_busy")
            raise GeminiUnreachableError("all threads of the SDK are busy", busy=True) from error

    async def aclose(self) -> None:
        """See `GeminiClient`. Calls that hang end with the process."""
        self._session.close()


def _prepared_session(connections: int) -> requests.Session:
    """Return the SDK's HTTP session, made to pass errors on and to serve all threads.

    The SDK can't read the error of a refused stream (a list around the object) and calls it a
    bad request; and it repeats overloaded calls by itself for minutes.
    """
    transport = get_default_generative_client().transport
    session: requests.Session = transport._session  # noqa: SLF001 - the SDK offers no other way
    session.hooks["response"].append(_raise_as_sent)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections))
    return session


def _raise_as_sent(response: requests.Response, **_options: Any) -> None:
    if not response.ok:
        raise decode_error(response.status_code, response.content)
    _THREAD.response = response


class SdkStream:
    """Brings the chunks of a blocking call from its thread to the event loop."""

    def __init__(self, model: str, body: GenerateContentBody) -> None:
        self.received_bytes = 0
        self._model = model
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[GenerateContentResponse | Exception | None] = asyncio.Queue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._http: requests.Response | None = None
        self._stopped = threading.Event()
        self._ended = False

    async def opened(self) -> None:
        """Return once Gemini has accepted the request.

        Raises:
            GeminiError: it refused, failed or could not be reached.
            InvalidRequestError: the SDK can't say it.
        """
        await self._opened

    def pump(self) -> None:
        """Make the call and read its answer to the end; runs in a thread."""
        last: Exception | None = None
        try:
            request = to_sdk_request(self._model, self._body)
            get_default_generative_client().stream_generate_content(
                request, timeout=CALL_SECONDS_MAX
            )
            self._http = _THREAD.response
            self._tell(self._accept, None)
            with _THREAD.response as response:
                self._read(response)
        except ServiceError as error:
            last = error
        except Exception as error:  # noqa: BLE001 - any failure must reach the waiting side
            last = as_gemini_error(error)
        self._tell(self._finish, last)

    def _read(self, response: requests.Response) -> None:
        reader = ArrayReader()
        if self._stopped.is_set():
            return
        for received in response.iter_content(_READ_BYTES_MAX):
            if self._stopped.is_set():
                return
            self.received_bytes += len(received)
            for chunk in reader.feed(received):
                self._tell(self._arrived.put_nowait, decode_answer(chunk))
        reader.finish()

    def _accept(self, failure: Exception | None) -> None:
        """Tell who waits for the opening, if somebody still does."""
        if self._opened.done():
            return
        if failure is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(failure)

    def _finish(self, last: Exception | None) -> None:
        self._accept(last)
        self._arrived.put_nowait(last)

    def _tell(self, function: Callable[[T], object], value: T) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, value)

    async def receive(self) -> list[GenerateContentResponse]:
        """See `GeminiStream`."""
        if self._ended:
            return []
        item = await self._arrived.get()
        if isinstance(item, GenerateContentResponse):
            return [item]
        self._ended = True
        if item is not None:
            raise item
        return []

    async def aclose(self) -> None:
        """See `GeminiStream`: breaks the connection off, which ends the thread's waiting."""
        self._stopped.set()
        if self._http is not None and not self._ended:
            # RuntimeError: its thread has just read it to the end.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                self._http.raw.shutdown()


def as_gemini_error(error: BaseException) -> GeminiError:
    """Turn what the SDK raises into our error."""
    if isinstance(error, GeminiError):
        return error
    if isinstance(error, GoogleAPICallError):
        status = error.grpc_status_code.name if error.grpc_status_code else ""
        return GeminiError(int(error.code or 500), status, str(error.message))
    if isinstance(error, requests.exceptions.Timeout | RetryError):
        return GeminiUnreachableError(described(error), timed_out=True)
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return GeminiUnreachableError(described(error))
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
    _log.error("gemini_sdk_failed", error=described(error), where=where)
    return GeminiError(502, "MALFORMED", f"{type(error).__name__}: {error}")
