"""Gemini through Google's `google-generativeai`, in threads of its own.

For those who must use the SDK. It is past its end of life and knows neither `thinkingConfig`
nor `seed`, thinking text, thought signatures or `thoughtsTokenCount`; it looks one chunk
ahead, so each chunk arrives when the next one has. docs/decisions says more.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import google.generativeai as genai
import requests
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.generativeai.client import get_default_generative_client
from requests.adapters import HTTPAdapter

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import (
    GeminiError,
    GeminiUnreachableError,
    GenerateContentBody,
    GenerateContentResponse,
)
from ai_proxy_service.services.daemon_threads import DaemonThreadExecutor, NoThreadFreeError
from ai_proxy_service.services.gemini_wire import decode_answer, decode_error
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

CALL_SECONDS_MAX = 600.0
_THREAD = threading.local()
# Members of generationConfig that the SDK's message type has; others make it raise.
KNOWN_CONFIG = {
    "candidateCount": "candidate_count",
    "stopSequences": "stop_sequences",
    "maxOutputTokens": "max_output_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "responseMimeType": "response_mime_type",
}


class SdkGeminiClient:
    """Runs the SDK's blocking calls in an executor, one thread for each running call."""

    def __init__(self, base_url: str, key: str, *, threads: int) -> None:
        # The SDK has one global configuration, hence one key per process.
        genai.configure(
            api_key=key, transport="rest", client_options={"api_endpoint": base_url.rstrip("/")}
        )
        _prepare_session(threads)
        self._executor = DaemonThreadExecutor(threads, "gemini-sdk")

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        """See `GeminiClient`."""
        _check(body)
        return await self._run(lambda: _to_wire(_generate(model, body, stream=False)))

    async def generate_completion_stream(
        self, model: str, body: GenerateContentBody
    ) -> "SdkStream":
        """See `GeminiClient`."""
        _check(body)
        stream = SdkStream(model, body)
        self._submit(stream.pump)
        try:
            await stream.opened()
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        """See `GeminiClient`."""
        return await self._run(
            lambda: int(_model(model, body).count_tokens(_contents(body)).total_tokens)
        )

    async def list_models(self) -> list[str]:
        """See `GeminiClient`."""
        return await self._run(
            lambda: [
                model.name.removeprefix("models/")
                for model in genai.list_models()
                if "generateContent" in model.supported_generation_methods
            ]
        )

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(self._submit(call))
        except Exception as error:
            raise as_gemini_error(error) from error

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        try:
            return self._executor.submit(call)
        except NoThreadFreeError as error:
            _log.warning("gemini_sdk_threads_busy")
            raise GeminiUnreachableError("all threads of the SDK are busy") from error

    async def aclose(self) -> None:
        """See `GeminiClient`. Calls that hang end with the process."""


def _prepare_session(connections: int) -> None:
    """Let errors through as Gemini sent them, and keep a connection for each thread.

    The SDK can't read the error of a refused stream (a list around the object) and calls it a
    bad request; and it repeats overloaded calls by itself for minutes.
    """
    transport = get_default_generative_client().transport
    session: requests.Session = transport._session  # noqa: SLF001 - the SDK offers no other way
    session.hooks["response"].append(_raise_as_sent)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections))


def _raise_as_sent(response: requests.Response, **_options: Any) -> None:
    if not response.ok:
        raise decode_error(response.status_code, response.content)
    # For the stream that this thread reads, which may have to be broken off from outside.
    _THREAD.response = response


class SdkStream:
    """Brings the chunks of a blocking iterator from its thread to the event loop."""

    def __init__(self, model: str, body: GenerateContentBody) -> None:
        self._model = model
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[GenerateContentResponse | GeminiError | None] = asyncio.Queue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._http: requests.Response | None = None
        self._stopped = threading.Event()
        self._ended = False

    async def opened(self) -> None:
        """Return once Gemini has accepted the request.

        Raises:
            GeminiError: it refused, failed or could not be reached.
        """
        await self._opened

    def pump(self) -> None:
        """Make the call and read its answer to the end; runs in a thread."""
        last: GeminiError | None = None
        try:
            response = _generate(self._model, self._body, stream=True)
            self._http = _THREAD.response
            self._tell(self._accept, None)
            for chunk in response:
                if self._stopped.is_set():
                    return
                self._tell(self._arrived.put_nowait, _to_wire(chunk))
        except Exception as error:  # noqa: BLE001 - any failure must reach the waiting side
            last = as_gemini_error(error)
        self._tell(self._finish, last)

    def _accept(self, failure: GeminiError | None) -> None:
        """Tell who waits for the opening, if somebody still does."""
        if self._opened.done():
            return
        if failure is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(failure)

    def _finish(self, last: GeminiError | None) -> None:
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
            with contextlib.suppress(OSError, ValueError):
                self._http.raw.shutdown()


def _check(body: GenerateContentBody) -> None:
    """Refuse what the SDK would leave out although the answer depends on it."""
    if "responseJsonSchema" in body.get("generationConfig", {}):
        raise InvalidRequestError(
            "A JSON schema is not supported here: the gateway uses Google's SDK.",
            code="unsupported_parameter",
            field="response_format",
        )


def _model(model: str, body: GenerateContentBody) -> genai.GenerativeModel:
    instruction = body.get("systemInstruction")
    parts = instruction["parts"] if instruction else None
    return genai.GenerativeModel(model, system_instruction=parts)


def _contents(body: GenerateContentBody) -> list[dict[str, Any]]:
    return [dict(content) for content in body["contents"]]


def _generate(model: str, body: GenerateContentBody, *, stream: bool) -> Any:
    config = body.get("generationConfig", {})
    known = {KNOWN_CONFIG[name]: value for name, value in config.items() if name in KNOWN_CONFIG}
    return _model(model, body).generate_content(
        _contents(body),
        generation_config=known,
        safety_settings=body.get("safetySettings"),
        stream=stream,
        request_options={"timeout": CALL_SECONDS_MAX},
    )


def _to_wire(response: Any) -> GenerateContentResponse:
    """Read the SDK's message as the REST wire has it."""
    message = response._result  # noqa: SLF001 - to_dict() loses the names of the enums
    answer = decode_answer(type(message).to_json(message, use_integers_for_enums=False))
    usage = answer.usage_metadata
    if usage is not None and not usage.thoughts_token_count:
        # The SDK drops the field, but the total that it keeps includes thinking.
        counted = usage.prompt_token_count + usage.candidates_token_count
        usage.thoughts_token_count = max(0, usage.total_token_count - counted)
    return answer


def as_gemini_error(error: BaseException) -> GeminiError:
    """Turn what the SDK raises into our error."""
    if isinstance(error, GeminiError):
        return error
    if isinstance(error, GoogleAPICallError):
        status = error.grpc_status_code.name if error.grpc_status_code else ""
        return GeminiError(int(error.code or 500), status, str(error.message))
    if isinstance(error, requests.exceptions.Timeout | RetryError):
        return GeminiUnreachableError(f"{type(error).__name__}: {error}", timed_out=True)
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return GeminiUnreachableError(f"{type(error).__name__}: {error}")
    _log.error("gemini_sdk_failed", error=f"{type(error).__name__}: {error}")
    return GeminiError(502, "MALFORMED", f"{type(error).__name__}: {error}")
