"""Gemini, with each call measured: for the metrics, the access line, and a trace if there is one.

Spans are as OpenTelemetry's GenAI conventions have them:
https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md. Nothing
of prompts and answers is in them. Gemini itself is not told of the trace: it is somebody else's
service, to which the ids of ours and of our clients' requests are of no use and no business.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ai_proxy_service.core.gemini import (
    GeminiError,
    GenerateContentBody,
    GenerateContentResponse,
    UsageMetadata,
)
from ai_proxy_service.core.interfaces import Embeddings, EmbedOptions, GeminiClient, GeminiStream
from ai_proxy_service.core.upstream_metrics import UpstreamMetrics, kind_of
from ai_proxy_service.core.usage import usage_of
from service_kit.access_log import note, noted
from service_kit.spans import Span, Value
from service_kit.tracing import span

_PROVIDER: Final = "gcp.gemini"
_GENERATE: Final = "generate_content"
_PORTS = {"http": 80, "https": 443}
_MILLISECONDS = 1000
# Numbers of `generationConfig`; its words, such as stop sequences, are the client's own.
_REQUEST_ATTRIBUTES = {
    "maxOutputTokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "topP": "gen_ai.request.top_p",
    "topK": "gen_ai.request.top_k",
    "candidateCount": "gen_ai.request.choice.count",
}


class ObservedCall:
    """One call to Gemini, from its beginning to the end of its answer."""

    __slots__ = ("_ended", "_finish_reasons", "_metrics", "_report", "_span", "_start", "_told")

    def __init__(self, metrics: UpstreamMetrics, call_span: Span) -> None:
        self._metrics = metrics
        self._span = call_span
        self._start = time.perf_counter()
        self._ended = False
        self._told = False
        self._report: UsageMetadata | None = None
        self._finish_reasons: dict[int, str] = {}

    def received(self, chunks: Sequence[GenerateContentResponse]) -> None:
        """Note what has come."""
        if not self._span.recording:
            return
        if not self._told:
            self._told = True
            self._span.event("gen_ai.first_chunk")
            self._tell_first(chunks[0])
        for chunk in chunks:
            self._report = chunk.usage_metadata or self._report
            for candidate in chunk.candidates or ():
                if candidate.finish_reason:
                    reason = str(candidate.finish_reason).lower()
                    self._finish_reasons[candidate.index or 0] = reason

    def _tell_first(self, chunk: GenerateContentResponse) -> None:
        seconds = time.perf_counter() - self._start
        attributes: dict[str, Value] = {"gen_ai.response.time_to_first_chunk": seconds}
        if chunk.model_version:
            attributes["gen_ai.response.model"] = chunk.model_version
        if chunk.response_id:
            attributes["gen_ai.response.id"] = chunk.response_id
        self._span.set(attributes)

    def fail(self, error: GeminiError) -> None:
        """Note that Gemini refused or failed."""
        if self._ended:
            return
        kind = kind_of(error)
        self._metrics.errors.labels(kind).inc()
        note(ended="upstream_error", upstream_error=kind)
        self._span.fail(kind)
        self.end()

    def end(self) -> None:
        """Note that the answer has ended, or that nobody wants the rest of it; once."""
        if self._ended:
            return
        self._ended = True
        milliseconds = (time.perf_counter() - self._start) * _MILLISECONDS
        note(upstream_ms=round(noted("upstream_ms", 0.0) + milliseconds, 3))
        if self._span.recording:
            self._span.set(self._usage())
        self._span.end()

    def _usage(self) -> dict[str, Value]:
        attributes: dict[str, Value] = {}
        if self._finish_reasons:
            reasons = [reason for _, reason in sorted(self._finish_reasons.items())]
            attributes["gen_ai.response.finish_reasons"] = reasons
        if self._report is not None:
            usage = usage_of(self._report)
            attributes |= {
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "gen_ai.usage.reasoning.output_tokens": usage.thoughts_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            }
        return attributes


class ObservedStream:
    """A `GeminiStream` whose call is measured."""

    __slots__ = ("_call", "_inner")

    def __init__(self, inner: GeminiStream, call: ObservedCall) -> None:
        self._inner = inner
        self._call = call

    @property
    def received_bytes(self) -> int:
        """See `GeminiStream`."""
        return self._inner.received_bytes

    async def receive(self) -> list[GenerateContentResponse]:
        """See `GeminiStream`."""
        try:
            chunks = await self._inner.receive()
        except GeminiError as error:
            self._call.fail(error)
            raise
        if chunks:
            self._call.received(chunks)
        else:
            self._call.end()
        return chunks

    async def aclose(self) -> None:
        """See `GeminiStream`."""
        self._call.end()
        await self._inner.aclose()


class ObservedGemini:
    """A `GeminiClient` whose calls are measured.

    Args:
        inner: what makes the calls.
        metrics: where errors are counted.
        base_url: where Gemini is.
    """

    def __init__(self, inner: GeminiClient, metrics: UpstreamMetrics, base_url: str) -> None:
        self._inner = inner
        self._metrics = metrics
        address = urlsplit(base_url)
        self._server: dict[str, Value] = {
            "gen_ai.provider.name": _PROVIDER,
            "server.address": address.hostname or "",
            "server.port": address.port or _PORTS.get(address.scheme, 0),
        }

    @property
    def unsupported(self) -> frozenset[str]:
        """See `GeminiClient`."""
        return self._inner.unsupported

    def _call(self, operation: str, model: str) -> ObservedCall:
        return ObservedCall(self._metrics, self._begin(operation, model))

    def _begin(self, operation: str, model: str) -> Span:
        call_span = span(f"{operation} {model}", kind="client", attributes=self._server)
        if call_span.recording:
            call_span.set({"gen_ai.operation.name": operation, "gen_ai.request.model": model})
        return call_span

    def _generation(self, model: str, body: GenerateContentBody, *, stream: bool) -> ObservedCall:
        call_span = self._begin(_GENERATE, model)
        if call_span.recording:
            call_span.set({"gen_ai.request.stream": stream, **_requested(body)})
        return ObservedCall(self._metrics, call_span)

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        """See `GeminiClient`."""
        call = self._generation(model, body, stream=False)
        try:
            answer = await self._inner.generate_completion(model, body)
            call.received([answer])
        except GeminiError as error:
            call.fail(error)
            raise
        finally:
            call.end()
        return answer

    async def generate_completion_stream(
        self, model: str, body: GenerateContentBody
    ) -> ObservedStream:
        """See `GeminiClient`."""
        call = self._generation(model, body, stream=True)
        try:
            return ObservedStream(await self._inner.generate_completion_stream(model, body), call)
        except GeminiError as error:
            call.fail(error)
            raise
        except BaseException:
            call.end()
            raise

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        """See `GeminiClient`."""
        call = self._call("count_tokens", model)
        try:
            return await self._inner.count_tokens(model, body)
        except GeminiError as error:
            call.fail(error)
            raise
        finally:
            call.end()

    async def embed(self, model: str, texts: Sequence[str], options: EmbedOptions) -> Embeddings:
        """See `GeminiClient`."""
        call = self._call("embeddings", model)
        try:
            return await self._inner.embed(model, texts, options)
        except GeminiError as error:
            call.fail(error)
            raise
        finally:
            call.end()

    async def list_models(self) -> list[str]:
        """See `GeminiClient`."""
        return await self._inner.list_models()

    async def aclose(self) -> None:
        """See `GeminiClient`."""
        await self._inner.aclose()


def _requested(body: Mapping[str, Any]) -> dict[str, Value]:
    config = body.get("generationConfig", {})
    return {
        attribute: config[name]
        for name, attribute in _REQUEST_ATTRIBUTES.items()
        if isinstance(config.get(name), int | float)
    }
