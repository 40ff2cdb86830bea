"""Sends spans to a collector with OpenTelemetry's SDK: in a thread, in batches, never waited for.

Only imported where spans are recorded. A collector that is away costs the spans, which are counted,
and nothing else.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service_kit.daemon_threads import DaemonThreadExecutor
from service_kit.logging import get_logger
from service_kit.spans import Kind, LiveSpan, Value
from service_kit.spans import Span as OurSpan

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

_log = get_logger(__name__)

# Together with what is being sent: about 2 kB each. As the SDK's own default.
WAITING_MAX = 2048
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_NOWHERE = Context()
_propagator = TraceContextTextMapPropagator()


class CountingExporter(SpanExporter):
    """Sends spans, counts those that were not taken, and says so once, not at each try.

    Attributes:
        done: spans that need no room any more; only the sending thread changes it.
    """

    def __init__(self, inner: SpanExporter, on_dropped: Callable[[int], object]) -> None:
        self.done = 0
        self._inner = inner
        self._on_dropped = on_dropped
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        try:
            result = self._inner.export(spans)
        finally:
            self.done += len(spans)
        if result is SpanExportResult.SUCCESS:
            if self._failing:
                _log.info("traces_sent_again")
            self._failing = False
            return result
        self._on_dropped(len(spans))
        if not self._failing:
            self._failing = True
            _log.warning("traces_not_sent", consequence="spans are dropped; requests go on")
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._inner.shutdown()


class BoundedProcessor(SpanProcessor):
    """Hands spans to the sending thread; one too many is dropped and counted.

    The SDK's own bound would drop the oldest one without telling anybody.
    """

    def __init__(
        self, exporter: CountingExporter, on_dropped: Callable[[int], object], waiting_max: int
    ) -> None:
        self._exporter = exporter
        self._on_dropped = on_dropped
        self._waiting_max = waiting_max
        self._given = 0
        self._batches = BatchSpanProcessor(exporter, max_queue_size=waiting_max + 1)

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._given - self._exporter.done >= self._waiting_max:
            self._on_dropped(1)
            return
        self._given += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """See `SpanProcessor`."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # library is untyped here


class Exporting:
    """The tracer of a process, and the thread that sends its spans.

    Args:
        on_dropped: called with a number of spans that were lost.
    """

    def __init__(self, on_dropped: Callable[[int], object]) -> None:
        # Whatever goes wrong is said once, by the exporter above.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = CountingExporter(OTLPSpanExporter(), on_dropped)
        self._provider = TracerProvider(resource=Resource.create(), shutdown_on_exit=False)
        self._provider.add_span_processor(BoundedProcessor(exporter, on_dropped, WAITING_MAX))
        self._tracer = self._provider.get_tracer("service_kit", version("service-kit"))
        self._threads = DaemonThreadExecutor(1, "traces-close")

    def start(
        self, name: str, kind: Kind, parent: OurSpan, attributes: Mapping[str, Value] | None
    ) -> Span:
        """Begin a span inside another; inside nothing if that is not recorded here."""
        context = _NOWHERE
        if isinstance(parent, LiveSpan):
            context = set_span_in_context(parent.span, _NOWHERE)
        return self._start(name, _KINDS[kind], context, attributes)

    def start_server(
        self, name: str, headers: Mapping[str, str], attributes: Mapping[str, Value]
    ) -> Span:
        """Begin a span inside the one that a client's headers name, if they name one."""
        context = _propagator.extract(headers, _NOWHERE) if headers else _NOWHERE
        return self._start(name, SpanKind.SERVER, context, attributes)

    def _start(
        self, name: str, kind: SpanKind, context: Context, attributes: Mapping[str, Value] | None
    ) -> Span:
        given: Mapping[str, AttributeValue] | None = attributes
        return self._tracer.start_span(name, context, kind, given)

    @staticmethod
    def fail(span: Span, error_type: str) -> None:
        """Mark a span as failed, without the error's text."""
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR))

    @staticmethod
    def headers(span: Span) -> dict[str, str]:
        """Return the headers that make spans elsewhere children of this one."""
        headers: dict[str, str] = {}
        _propagator.inject(headers, set_span_in_context(span, _NOWHERE))
        return headers

    def close(self) -> Future[None]:
        """Begin to send the rest; the thread that does is no reason to wait for it for long."""
        return self._threads.submit(self._provider.shutdown)
