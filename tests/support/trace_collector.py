"""A collector of traces: takes OTLP over HTTP, as the real one does, and remembers the spans."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """A span as it came; ids in hexadecimal.

    Attributes:
        service: who sent it.
        kind: ``SERVER``, ``CLIENT`` or ``INTERNAL``.
        links: the ids of spans that it is linked with.
        nanos: when it began and ended.
    """

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, Any]
    events: tuple[str, ...]
    links: frozenset[str]
    failed: bool
    nanos: tuple[int, int]


class TraceCollector:
    """What has come so far.

    Attributes:
        spans: all spans, in the order in which they came.
        raw: the bodies of all requests, for what must not be in them.
        port: where it listens.
    """

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.raw: list[bytes] = []
        self.port = 0
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """What services are told of it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Listen: on a port of its own at first, on the same one ever after."""
        self._server = _server(self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Be gone."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be gone for a while: connections are refused."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def take(self, body: bytes) -> None:
        """Take a request's body."""
        with self._changed:
            self.raw.append(body)
            request = ExportTraceServiceRequest()
            request.ParseFromString(body)
            for group in request.resource_spans:
                service = _values(group.resource.attributes)["service.name"]
                for scope in group.scope_spans:
                    self.spans += [_seen(service, span) for span in scope.spans]
            self._changed.notify_all()

    def wait_until(self, fulfilled: Callable[["TraceCollector"], bool]) -> None:
        """Return once a condition holds."""
        with self._changed:
            if not self._changed.wait_for(lambda: fulfilled(self), TIMEOUT_SECONDS):
                lines = "\n".join(f"{span.service} {span.trace} {span.name}" for span in self.spans)
                raise AssertionError(f"did not come; what came:\n{lines}")

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """Return the spans of a trace that have come."""
        return [span for span in self.spans if span.trace == trace_id]

    def wait_for(self, trace_id: str, *names: str) -> list[SeenSpan]:
        """Return a trace once it has spans of these names, each as often as it is named."""

        def has_all(_collector: TraceCollector) -> bool:
            found = [span.name for span in self.trace(trace_id)]
            return all(found.count(name) >= names.count(name) for name in names)

        self.wait_until(has_all)
        return self.trace(trace_id)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _values(pairs: Any) -> dict[str, Any]:
    given: list[KeyValue] = list(pairs)
    return {pair.key: _value(pair.value) for pair in given}


def _seen(service: str, span: Span) -> SeenSpan:
    return SeenSpan(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        events=tuple(event.name for event in span.events),
        links=frozenset(link.span_id.hex() for link in span.links),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        nanos=(span.start_time_unix_nano, span.end_time_unix_nano),
    )


def _server(collector: TraceCollector) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", collector.port), Handler)
