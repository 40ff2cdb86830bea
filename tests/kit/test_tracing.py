"""Spans: nothing at all where nobody collects them, and a client's trace goes on all the same."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from service_kit import tracing
from service_kit.logging import add_trace_id
from service_kit.metrics import HttpMetrics, HttpMetricsMiddleware
from service_kit.spans import NO_SPAN, current_span
from service_kit.trace_middleware import TraceMiddleware
from service_kit.trace_settings import take_over
from service_kit.tracing import (
    batch_span,
    close_tracing,
    configure_tracing,
    is_tracing,
    span,
    traced,
)
from support.trace_collector import SeenSpan, TraceCollector

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"


@pytest.fixture
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


@pytest.fixture
async def exporting(
    collector: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TraceCollector]:
    """Spans of this process go to a collector, until the test's end."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    # What it sets besides is to be gone as well.
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tests")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    configure_tracing(service="kit", endpoint=collector.url)
    yield collector
    await close_tracing()


async def _told(_request: Request) -> Response:
    """Answer with the headers that the next service would get."""
    return JSONResponse(current_span().headers())


async def _gone(_request: Request) -> Response:
    return Response(status_code=503)


def _client() -> httpx.AsyncClient:
    app = Starlette(
        routes=[Route("/items/{item}", _told), Route("/health", _told), Route("/gone", _gone)],
        middleware=[
            Middleware(TraceMiddleware),
            Middleware(HttpMetricsMiddleware, metrics=HttpMetrics(CollectorRegistry())),
        ],
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kit")


async def _get(path: str, headers: Any = None) -> dict[str, str]:
    async with _client() as client:
        answer = await client.get(path, headers=headers)
    told: dict[str, str] = answer.json() if answer.content else {}
    return told


async def _spans(collector: TraceCollector) -> dict[str, SeenSpan]:
    """Return all spans by their names, once they are sent."""
    await close_tracing()
    return {seen.name: seen for seen in collector.spans}


# --- off --------------------------------------------------------------------------------------


async def test_without_a_collector_there_is_one_span_that_does_nothing() -> None:
    with span("work") as inside:
        inside.set({"a": 1})
        inside.fail("b")

    assert inside is NO_SPAN is batch_span("batch", [inside])
    assert current_span() is NO_SPAN
    assert await _get("/items/7") == {}


def test_without_a_collector_nothing_of_opentelemetry_s_sdk_is_loaded() -> None:
    program = (
        "import sys; from service_kit.tracing import configure_tracing;"
        "configure_tracing(service='kit', endpoint='');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert printed.stdout == "[]\n"


@pytest.mark.parametrize("tracestate", [None, "vendor=value,other=1"])
async def test_a_client_s_trace_goes_on_as_it_came(tracestate: str | None) -> None:
    headers = {"traceparent": TRACEPARENT} | ({"tracestate": tracestate} if tracestate else {})

    assert await _get("/items/7", headers) == headers


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        TRACEPARENT.upper(),
        f"01-{TRACE}-{CLIENT}-01",
        f"00-{'0' * 32}-{CLIENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{TRACEPARENT}\u00e9",
        f"{TRACEPARENT}-more",
    ],
)
async def test_what_is_no_trace_is_not_passed_on(traceparent: str) -> None:
    assert await _get("/items/7", {"traceparent": traceparent.encode("latin-1")}) == {}


async def test_of_two_traces_neither_is_believed() -> None:
    assert await _get("/items/7", [("traceparent", TRACEPARENT)] * 2) == {}


@pytest.mark.parametrize("tracestate", [f"a={'b' * 600}", "a=\u00e9", "a=\u007f"])
async def test_a_tracestate_that_can_t_go_on_is_left_out(tracestate: str) -> None:
    """Too long, or of letters that our own calls can't carry: those would fail for it."""
    headers = {"traceparent": TRACEPARENT, "tracestate": tracestate.encode("latin-1")}

    assert await _get("/items/7", headers) == {"traceparent": TRACEPARENT}


async def test_the_trace_s_id_is_in_the_lines_of_its_request_and_in_no_other() -> None:
    with capture_logs(processors=[add_trace_id]) as lines:
        await _get("/items/7", {"traceparent": TRACEPARENT})
        await _get("/items/8")

    assert [line.get("trace_id") for line in lines] == [TRACE, None]


# --- on ---------------------------------------------------------------------------------------


async def test_a_request_is_a_span_named_by_its_route(exporting: TraceCollector) -> None:
    told = await _get("/items/secret-name", {"traceparent": TRACEPARENT})

    (seen,) = (await _spans(exporting)).values()
    assert (seen.name, seen.kind, seen.service) == ("GET /items/{item}", "SERVER", "tests")
    assert (seen.trace, seen.parent, seen.failed) == (TRACE, CLIENT, False)
    assert told == {"traceparent": f"00-{TRACE}-{seen.id}-01"}
    assert seen.attributes == {
        "url.scheme": "http",
        "http.request.method": "GET",
        "http.route": "/items/{item}",
        "http.response.status_code": 200,
    }


async def test_a_client_that_does_not_want_its_trace_recorded_is_obeyed(
    exporting: TraceCollector,
) -> None:
    told = await _get("/items/7", {"traceparent": f"00-{TRACE}-{CLIENT}-00"})

    assert told["traceparent"].startswith(f"00-{TRACE}-")
    assert told["traceparent"].endswith("-00")
    assert await _spans(exporting) == {}


async def test_probes_and_scrapes_are_not_recorded(exporting: TraceCollector) -> None:
    await _get("/health")

    assert await _spans(exporting) == {}


async def test_a_failure_is_marked_by_its_kind_without_its_text(exporting: TraceCollector) -> None:
    @traced("inner")
    async def inner() -> None:
        raise ValueError("the text with the prompt in it")

    with pytest.raises(ValueError, match="prompt"), span("outer"):
        await inner()
    await _get("/gone")

    spans = await _spans(exporting)
    assert all(spans[name].failed for name in ("inner", "outer", "GET /gone"))
    assert spans["inner"].parent == spans["outer"].id
    assert spans["inner"].attributes == {"error.type": "ValueError"}
    assert spans["GET /gone"].attributes["error.type"] == "503"
    assert b"prompt" not in b"".join(exporting.raw)


async def test_work_for_several_requests_leads_to_each_and_each_to_it(
    exporting: TraceCollector,
) -> None:
    with span("one") as one, span("other") as other:
        """Both are still running when their work is done together."""
        with batch_span("batch", [NO_SPAN, one, other]):
            """Their work."""

    spans = await _spans(exporting)
    batch = spans["batch"]
    assert (batch.trace, batch.parent) == (spans["one"].trace, spans["one"].id)
    assert batch.links == {spans["one"].id, spans["other"].id}
    assert spans["one"].links == spans["other"].links == {batch.id}


async def test_tasks_that_outlive_a_request_stay_in_its_trace(exporting: TraceCollector) -> None:
    @traced("later")
    async def later() -> None:
        await asyncio.sleep(0)

    with span("request"):
        task = asyncio.create_task(later())
    await task

    spans = await _spans(exporting)
    assert spans["later"].parent == spans["request"].id


async def test_a_collector_that_never_answers_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tests")
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        configure_tracing(service="kit", endpoint=endpoint)
        with span("lost"):
            """Nobody will take it."""

        async with asyncio.timeout(60):
            await close_tracing()

        assert not is_tracing()


async def test_more_spans_than_there_is_room_for_are_dropped_and_counted(
    exporting: TraceCollector,
) -> None:
    dropped: list[int] = []
    tracing.count_dropped_spans(dropped.append)
    with exporting.away():
        # Far more than wait at most, faster than any of them is given up.
        for _ in range(3 * 2048):
            with span("burst"):
                """Nothing."""

        assert 0 < sum(dropped) <= 3 * 2048


@pytest.mark.parametrize(
    ("environment", "file", "wanted"),
    [
        ({}, "", False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "", True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "", True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, "", False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "OTEL_TRACES_EXPORTER=none", False),
    ],
)
def test_opentelemetry_s_own_switches_are_obeyed(
    environment: dict[str, str],
    file: str,
    wanted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", dict(environment))
    path = tmp_path / ".env"
    path.write_text(file, encoding="utf-8")

    endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")

    assert take_over("kit", endpoint, path) is wanted


def test_what_the_environment_says_wins_over_the_file_and_both_over_our_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"OTEL_TRACES_SAMPLER": "always_on"})
    path = tmp_path / ".env"
    path.write_text("OTEL_TRACES_SAMPLER=always_off\nOTEL_SERVICE_NAME=mine\nOTHER=1\n")

    take_over("kit", "http://c:4318", path)

    assert os.environ == {
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
    }
