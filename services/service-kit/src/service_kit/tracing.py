"""Spans over OTLP, if the operator has a collector.

Off, which is the default, nothing of OpenTelemetry is even imported: a span is one shared object
that does nothing. A client's `traceparent` goes on to the next service all the same, as W3C allows
(https://www.w3.org/TR/trace-context/#mutating-the-traceparent-field).

The tracer is this module's own, never the global one of OpenTelemetry: libraries that look for that
would add spans of their own, with error texts and paths in them. What is recorded is what is named
here and at the calls: never a prompt, an answer, a key, an account or a path with names in it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from service_kit.spans import NO_SPAN, Kind, LiveSpan, PassedOn, Span, Value, current_span

if TYPE_CHECKING:
    from service_kit.trace_export import Exporting

P = ParamSpec("P")
T = TypeVar("T")

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACESTATE_CHARACTERS_MAX = 512
# How long what is not sent yet may hold up the end of the process.
CLOSE_SECONDS = 5.0
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# FastAPI would send spans, metrics and logs of its own, error texts included, as soon as an
# OTLP endpoint is in the environment. Its type for this is in a package that the kit does not use.
FASTAPI_TELEMETRY: Final[Any] = {
    "auto_configure": False,
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
}


class _Process:
    """What a process does with its spans: there is one tracer in it, as there is one log."""

    def __init__(self) -> None:
        self.exporting: Exporting | None = None
        self.on_dropped: Callable[[int], object] = int

    def drop(self, spans: int) -> None:
        """Count spans that never reached the collector."""
        self.on_dropped(spans)


_process = _Process()


def is_tracing() -> bool:
    """Tell whether spans are recorded."""
    return _process.exporting is not None


def span(
    name: str, *, kind: Kind = "internal", attributes: Mapping[str, Value] | None = None
) -> Span:
    """Begin a span inside the current one; use it in a `with`, or `end` it.

    Args:
        name: of few different ones: never with an id in it.
        kind: whether it is a call to somebody else, or from somebody else.
        attributes: recorded with it.
    """
    exporting = _process.exporting
    if exporting is None:
        return NO_SPAN
    return LiveSpan(exporting, exporting.start(name, kind, current_span(), attributes))


def client_span(method: str, path: str, *, segments: int) -> Span:
    """Begin the span of a call to another service of ours.

    Args:
        method: of the call.
        path: of the call.
        segments: how many of its segments make up the span's name; ids may come after them.
    """
    if _process.exporting is None:
        return NO_SPAN
    template = "/".join(path.partition("?")[0].split("/")[: segments + 1])
    attributes: dict[str, Value] = {"http.request.method": method, "url.template": template}
    return span(f"{method} {template}", kind="client", attributes=attributes)


def server_span(
    name: str, traceparent: str, tracestate: str, attributes: Mapping[str, Value]
) -> Span:
    """Begin the span of a request, inside the trace that its client named, if it named one."""
    found = _TRACEPARENT.fullmatch(traceparent)
    headers = {TRACEPARENT: traceparent} if found else {}
    if found and 0 < len(tracestate) <= TRACESTATE_CHARACTERS_MAX and _is_header_text(tracestate):
        headers[TRACESTATE] = tracestate
    exporting = _process.exporting
    if exporting is not None:
        return LiveSpan(exporting, exporting.start_server(name, headers, attributes))
    return PassedOn(found[1], headers) if found else NO_SPAN


def _is_header_text(text: str) -> bool:
    """Tell whether an HTTP client sends a text as it is; others fail at letters beyond ASCII."""
    return text.isascii() and text.isprintable()


def batch_span(name: str, members: Iterable[Span]) -> Span:
    """Begin the span of work that is done once for several requests.

    It is in the trace of the first of them that is recorded, and linked with all, so that each
    leads to it. There is none if no member is recorded.
    """
    exporting = _process.exporting
    if exporting is None:
        return NO_SPAN
    recorded = [member for member in members if member.recording]
    if not recorded:
        return NO_SPAN
    batch = LiveSpan(exporting, exporting.start(name, "internal", recorded[0], None))
    for member in recorded:
        batch.link(member)
        member.link(batch)
    return batch


def traced(
    name: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make each call of a coroutine function a span."""

    def decorate(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
            work = function(*args, **kwargs)
            return work if _process.exporting is None else _inside(name, work)

        return call

    return decorate


async def _inside(name: str, work: Coroutine[Any, Any, T]) -> T:
    with span(name):
        return await work


def count_dropped_spans(count: Callable[[int], object]) -> None:
    """Say where it is counted how many spans never reached the collector."""
    _process.on_dropped = count


def configure_tracing(*, service: str, endpoint: str) -> None:
    """Begin to record spans, if there is somebody to send them to; once in each process.

    Args:
        service: its name, unless `OTEL_SERVICE_NAME` says another.
        endpoint: `OTEL_EXPORTER_OTLP_ENDPOINT`; empty for none.
    """
    # Imported where they are needed only: OpenTelemetry takes 15 MB and 0.2 s.
    from service_kit import trace_settings  # noqa: PLC0415 - see above

    if _process.exporting is None and trace_settings.take_over(service, endpoint):
        from service_kit.trace_export import Exporting  # noqa: PLC0415 - see above

        _process.exporting = Exporting(_process.drop)


async def close_tracing() -> None:
    """Send what is recorded, within bounds, and record no more."""
    exporting, _process.exporting = _process.exporting, None
    if exporting is not None:
        await asyncio.wait({asyncio.wrap_future(exporting.close())}, timeout=CLOSE_SECONDS)
