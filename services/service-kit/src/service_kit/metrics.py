"""One source for every figure: Prometheus metrics, from which the JSON view is read.

With several workers the values live in files that all of them share
(`PROMETHEUS_MULTIPROC_DIR`), so that a scrape of any worker shows the machine's figures.
"""

import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.access_log import AccessLine
from service_kit.request_id import current_request_id
from service_kit.spans import current_span
from service_kit.trace_middleware import describe
from service_kit.tracing import count_dropped_spans

LATENCY_BUCKETS_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
)  # fmt: skip
UNMATCHED = "unmatched"
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# A label's values must be bounded, and a client may write any word as the method.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsRegistry:
    """The metrics of one app, and their readings."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def _readable(self) -> CollectorRegistry:
        folder = os.environ.get(MULTIPROCESS_FOLDER)
        if not folder:
            return self.registry
        forget_dead_workers(folder)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, folder)  # type: ignore[no-untyped-call]  # library is untyped here
        return shared

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the Prometheus or OpenMetrics text for an `Accept` header, and its type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._readable()), content_type

    def readings(self) -> "Readings":
        """Take all values at this moment."""
        samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in self._readable().collect():
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return Readings(samples)


def forget_dead_workers(folder: str) -> None:
    """Drop what workers that were killed still claim to be doing, such as open requests."""
    for file in Path(folder).glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            continue  # alive, under another user


class Readings:
    """Values of all metrics at one moment."""

    def __init__(self, samples: Mapping[str, list[tuple[Mapping[str, str], float]]]) -> None:
        self._samples = samples

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a sample that have these labels."""
        return sum(
            value
            for found, value in self._samples.get(name, ())
            if all(found.get(label) == wanted for label, wanted in labels.items())
        )

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of a sample for each value of one label."""
        sums: dict[str, float] = {}
        for labels, value in self._samples.get(name, ()):
            sums[labels.get(label, "")] = sums.get(labels.get(label, ""), 0) + value
        return dict(sorted(sums.items()))


class LimitStoreMetrics:
    """What is counted about the store that processes share for their limits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.errors = Counter(
            "rate_limit_store_errors",
            "Times that the rate limits' store did not answer and limits were kept per process.",
            registry=registry,
        )
        self.up = Gauge(
            "rate_limit_store_up",
            "1 while the rate limits' store answers, 0 while a process counts by itself.",
            ("store",),
            # With several workers: 0 as soon as one of them has lost it.
            multiprocess_mode="livemin",
            registry=registry,
        )


class HttpMetrics:
    """What is counted about every HTTP request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "http_server_requests",
            "Requests answered, by route template and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.duration = Histogram(
            "http_server_request_duration_seconds",
            "Time from the request's start to the end of its answer.",
            ("route",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "http_server_active_requests",
            "Requests being answered now.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.limit_store = LimitStoreMetrics(registry)
        self.rate_limited = Counter(
            "http_server_rate_limited",
            "Requests that a limit per address refused, by limit.",
            ("limit",),
            registry=registry,
        )
        self.spans_dropped = Counter(
            "tracing_spans_dropped",
            "Spans that did not reach the collector.",
            registry=registry,
        )
        count_dropped_spans(self.spans_dropped.inc)
        self._children: dict[tuple[str, str, int], Any] = {}

    def count_rate_limited(self, limit: str) -> None:
        """Count a request that a limit per address refused."""
        self.rate_limited.labels(limit).inc()

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            child = (self.requests.labels(method, route, str(status)), self.duration.labels(route))
            self._children[key] = child
        child[0].inc()
        child[1].observe(seconds)


class HttpMetricsMiddleware:
    """Counts each request and writes its access line, streams when they end."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A client that leaves before any status was sent is logged as nginx does it.
        status = 499
        line = AccessLine()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watch)
        finally:
            self.metrics.in_flight.dec()
            seconds = line.elapsed_seconds
            route = route_template(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.observe(method, route, status, seconds)
            span = current_span()
            if span.recording:
                describe(span, method, None if route == UNMATCHED else route, status, line.facts)
            line.end(
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_ms=round(seconds * 1000, 3),
                client=scope["client"][0] if scope.get("client") else None,
                principal=_principal_name(scope),
                # Said again: the line must carry it even if the app unbound the context.
                request_id=current_request_id(),
            )


def add_build_info(registry: CollectorRegistry, name: str, distribution: str) -> None:
    """Tell which version runs: one series for each that a worker runs, as long as it does."""
    info = Gauge(
        f"{name}_build_info",
        "Workers that run this version of the service.",
        ("version",),
        multiprocess_mode="livesum",
        registry=registry,
    )
    info.labels(version(distribution)).set(1)


def age_seconds(timestamp_seconds: float) -> float:
    """Return how long ago a moment was, as a gauge has it; 0 where there was none."""
    return round(max(0.0, time.time() - timestamp_seconds), 3) if timestamp_seconds else 0.0


def route_template(scope: Scope) -> str:
    """Return the matched route's template: a path itself would have no bound as a label."""
    # The route itself knows nothing of the prefix that FastAPI included its router with.
    included = scope.get("fastapi", {}).get("effective_route_context")
    route = scope.get("route") if included is None else included
    return getattr(route, "path", None) or UNMATCHED


def _principal_name(scope: Scope) -> str | None:
    principal = scope.get("state", {}).get("principal")
    return getattr(principal, "name", None)


def metrics_endpoint(
    registry: MetricsRegistry, json_view: Callable[[Readings], Mapping[str, Any]]
) -> Callable[[Request], Any]:
    """Make the `/metrics` endpoint: JSON for people, Prometheus text when it is asked for."""

    async def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        # A browser's or HTTP library's list of everything names JSON; a scraper's doesn't.
        if "json" not in accept and ("text/plain" in accept or "openmetrics" in accept):
            body, content_type = registry.exposition(accept)
            return Response(body, headers={"content-type": content_type})
        view = msgspec.json.format(msgspec.json.encode(json_view(registry.readings())), indent=2)
        return Response(view + b"\n", media_type="application/json")

    return metrics
