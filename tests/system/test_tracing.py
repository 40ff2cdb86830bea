"""One trace of a request through all processes, and nothing in it that is nobody's business."""

import re
import secrets
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from support.stack import CLIENT_KEY, GEMINI_KEY, MODEL, SERVICE_KEY, Stack, running_stack, say
from support.trace_collector import SeenSpan, TraceCollector

CANARY = "canary-words-of-the-prompt-7f3a"
PROXY, LEDGER = "ai-proxy-service", "credits-service"
# The spans of one billed completion.
COMPLETION = (
    "POST /v1/chat/completions",
    "authorise",
    "POST /api/v1/holds",
    "POST /api/v1/holds",
    "ledger.batch",
    f"generate_content {MODEL}",
    "charge",
    "POST /api/v1/bill",
    "POST /api/v1/bill",
    "ledger.batch",
)


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: TraceCollector) -> Iterator[Stack]:
    """The system, whose spans are sent soon after they end, or given up after a second."""
    folder = tmp_path_factory.mktemp("traced")
    tracing = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    ledger_url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, ledger_url, tracing, tracing) as stack:
        yield stack


def _client_trace() -> tuple[str, str, dict[str, str]]:
    """Return a client's trace id, its span id, and the header that tells of them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-01"}


def _ask(stack: Stack, headers: dict[str, str], account: str, text: str, **options: Any) -> None:
    answer = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"{CANARY} {text}"),
        user=account,
        extra_headers=headers,
        **options,
    )
    if options.get("stream"):
        assert list(answer)


def _one(spans: list[SeenSpan], name: str, **wanted: Any) -> SeenSpan:
    (found,) = [
        span
        for span in spans
        if span.name == name and all(getattr(span, key) == wanted[key] for key in wanted)
    ]
    return found


def test_a_streamed_and_billed_completion_is_one_trace_over_all_services(
    stack: Stack, collector: TraceCollector
) -> None:
    trace, client_span, headers = _client_trace()

    _ask(stack, headers, stack.account("1"), "[[sim tokens=30]]", stream=True)

    spans = collector.wait_for(trace, *COMPLETION)
    assert sorted(span.name for span in spans) == sorted(COMPLETION)
    request = _one(spans, "POST /v1/chat/completions", service=PROXY, kind="SERVER")
    assert request.parent == client_span
    children = {"authorise": "INTERNAL", f"generate_content {MODEL}": "CLIENT"}
    children["charge"] = "INTERNAL"
    for name, kind in children.items():
        assert _one(spans, name, kind=kind).parent == request.id
    for name, path in (("authorise", "/api/v1/holds"), ("charge", "/api/v1/bill")):
        calling = _one(spans, f"POST {path}", service=PROXY, kind="CLIENT")
        serving = _one(spans, f"POST {path}", service=LEDGER, kind="SERVER")
        assert calling.parent == _one(spans, name).id
        assert serving.parent == calling.id
        batch = _one(spans, "ledger.batch", parent=serving.id)
        assert batch.links == {serving.id}
        assert serving.links == {batch.id}
        assert serving.nanos[0] <= batch.nanos[0] <= batch.nanos[1] <= serving.nanos[1]
    assert not any(span.failed for span in spans)


def test_the_call_of_gemini_says_what_the_genai_conventions_name(
    stack: Stack, collector: TraceCollector
) -> None:
    trace, _, headers = _client_trace()

    _ask(
        stack,
        headers,
        stack.account("1"),
        "[[sim tokens=30 thoughts=7]]",
        stream=True,
        temperature=0.5,
    )

    spans = collector.wait_for(trace, *COMPLETION)
    call = _one(spans, f"generate_content {MODEL}")
    assert call.events == ("gen_ai.first_chunk",)
    said = dict(call.attributes)
    assert said.pop("gen_ai.response.time_to_first_chunk") > 0
    assert said.pop("gen_ai.request.max_tokens") > 0
    assert said.pop("gen_ai.usage.input_tokens") > 0
    assert said.pop("gen_ai.response.id")
    assert said.pop("server.port") == int(stack.simulator.url.rpartition(":")[2])
    assert said == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.output_tokens": 37,
        "gen_ai.usage.reasoning.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "server.address": "127.0.0.1",
    }


def test_gemini_is_not_told_of_the_trace(stack: Stack, collector: TraceCollector) -> None:
    trace, _, headers = _client_trace()

    _ask(stack, headers, stack.account("1"), "[[sim tokens=3]]")

    collector.wait_for(trace, *COMPLETION)
    received = stack.wait_for_upstream()
    assert received
    assert trace not in str(received)


def test_what_fails_is_marked_and_only_its_kind_is_told(
    stack: Stack, collector: TraceCollector
) -> None:
    trace, _, headers = _client_trace()

    with pytest.raises(openai.InternalServerError):
        _ask(stack, headers, stack.account("1"), "[[sim error=overloaded]]")

    spans = collector.wait_for(trace, f"generate_content {MODEL}", "POST /v1/chat/completions")
    call = _one(spans, f"generate_content {MODEL}")
    request = _one(spans, "POST /v1/chat/completions")
    assert (call.failed, call.attributes["error.type"]) == (True, "unavailable")
    assert (request.failed, request.attributes["http.response.status_code"]) == (True, 503)


def test_an_account_that_can_not_pay_is_seen_where_it_was_refused(
    stack: Stack, collector: TraceCollector
) -> None:
    trace, _, headers = _client_trace()

    with pytest.raises(openai.APIStatusError):
        _ask(stack, headers, stack.account(), "hi")

    spans = collector.wait_for(trace, "authorise", "POST /v1/chat/completions")
    authorise = _one(spans, "authorise")
    request = _one(spans, "POST /v1/chat/completions")
    assert (authorise.failed, authorise.attributes["error.type"]) == (True, "insufficient_quota")
    assert (request.failed, request.attributes["http.response.status_code"]) == (False, 402)


def test_the_log_lines_of_both_services_carry_the_trace_s_id(stack: Stack) -> None:
    trace, _, headers = _client_trace()

    _ask(stack, headers, stack.account("1"), "[[sim tokens=3]]")

    for process, path in (
        (stack.proxy, "/v1/chat/completions"),
        (stack.ledger, "/api/v1/holds"),
        (stack.ledger, "/api/v1/bill"),
    ):
        process.wait_for_event(event="request", path=path, trace_id=trace)
    stack.proxy.wait_for_event(event="charged", trace_id=trace)


def test_prompts_keys_and_accounts_are_in_no_span(stack: Stack, collector: TraceCollector) -> None:
    trace, _, headers = _client_trace()
    account = stack.account("1")

    _ask(stack, headers, account, "[[sim tokens=5]]", stop=["canary-stop"], stream=True)

    collector.wait_for(trace, *COMPLETION)
    sent = b"".join(collector.raw)
    assert bytes.fromhex(trace) in sent, "what is looked through is not what was sent"
    for secret in (CANARY, "canary-stop", CLIENT_KEY, SERVICE_KEY, GEMINI_KEY, account, "user-"):
        assert secret.encode() not in sent


def test_a_dead_collector_costs_spans_and_nothing_else(
    stack: Stack, collector: TraceCollector
) -> None:
    """It is said once, however often spans are lost, and they go again once it is back."""
    account = stack.account("1")

    with collector.away():
        for _ in range(10):
            _ask(stack, {}, account, "[[sim tokens=3]]")
        stack.proxy.wait_for_log("traces_not_sent")
        assert _dropped(stack) > 0

    trace, _, headers = _client_trace()
    _ask(stack, headers, account, "[[sim tokens=3]]")
    collector.wait_for(trace, *COMPLETION)
    stack.proxy.wait_for_log("traces_sent_again")
    assert len([line for line in stack.proxy.lines if "traces_not_sent" in line]) == 1


def _dropped(stack: Stack) -> float:
    metrics = stack.http(stack.proxy.url, None).get("/metrics", headers={"accept": "text/plain"})
    (dropped,) = re.findall(r"^tracing_spans_dropped_total (.*)$", metrics.text, re.MULTILINE)
    return float(dropped)
