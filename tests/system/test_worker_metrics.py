"""With several workers a scrape shows the machine, also after one of them was killed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from support.databases import postgres_database, require_postgres
from support.scrapes import Scrape, scrape, worker_with
from support.stack import CLIENT_KEY, MODEL, Stack, price_usd, running_stack, say

REQUESTS = 24
ROUTE = "/v1/chat/completions"
NANOS_PER_USD = 10**9
PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Workers:
    """A system of several workers each.

    Attributes:
        stack: the system.
        proxy_files: where the proxy's workers keep their figures.
        ledger_files: where those of the credits service do.
    """

    stack: Stack
    proxy_files: Path
    ledger_files: Path


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    require_postgres()
    folder = tmp_path_factory.mktemp("workers")
    files = (folder / "proxy-figures", folder / "ledger-figures")
    settings: list[dict[str, str]] = []
    for count, path in zip(("4", "2"), files, strict=True):
        path.mkdir()
        settings.append({"WORKERS": count, "PROMETHEUS_MULTIPROC_DIR": str(path)})
    # Each sweep counts the open holds anew.
    settings[1]["SWEEP_INTERVAL_SECONDS"] = "0.2"
    with postgres_database() as url, running_stack(folder, url, *settings) as stack:
        # They listen before their workers serve.
        stack.proxy.wait_for_log("Application startup complete", PATIENCE_SECONDS, times=4)
        stack.ledger.wait_for_log("Application startup complete", PATIENCE_SECONDS, times=2)
        yield Workers(stack, *files)


def _ask(
    stack: Stack, account: str, text: str = "[[sim tokens=5]]"
) -> openai.types.CompletionUsage:
    """Ask over a connection of its own, so that any worker may be the one that takes it."""
    with openai.OpenAI(
        api_key=CLIENT_KEY, base_url=f"{stack.proxy.url}/v1", max_retries=0
    ) as client:
        answer = client.chat.completions.create(model=MODEL, messages=say(text), user=account)
    assert answer.usage is not None
    return answer.usage


def _wait_for_scrape(url: str, name: str, value: float) -> Scrape:
    """Scrape until a figure that is counted now and then is what it should be."""
    for _ in range(200):
        seen = scrape(url)
        if seen.total(name) == value:
            return seen
    raise AssertionError(f"{name} is {seen.total(name)}, not {value}")


def test_a_scrape_is_the_sum_of_what_all_workers_were_sent(workers: Workers) -> None:
    stack = workers.stack
    account = stack.account("1")
    proxy_before, ledger_before = scrape(stack.proxy.url), scrape(stack.ledger.url)

    usages = [_ask(stack, account) for _ in range(REQUESTS)]
    with pytest.raises(openai.APIStatusError):
        _ask(stack, stack.account())

    def grown(name: str, **labels: str) -> float:
        is_proxy = name.startswith(("gateway", "gen_ai", "http"))
        after = scrape(stack.proxy.url if is_proxy else stack.ledger.url)
        before = proxy_before if is_proxy else ledger_before
        return after.total(name, **labels) - sum(before.by_labels(name, labels))

    assert grown("http_server_requests_total", route=ROUTE, status="200") == REQUESTS
    assert grown("http_server_requests_total", route=ROUTE, status="402") == 1
    assert grown("gateway_completions_total", model=MODEL, outcome="successful") == REQUESTS
    assert grown("gen_ai_client_operation_duration_seconds_count", model=MODEL) == REQUESTS + 1
    for kind, name in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        tokens = sum(getattr(usage, name) for usage in usages)
        assert grown("gen_ai_client_token_usage_total", type=kind) == tokens
    cost = sum(price_usd(usage) for usage in usages)
    assert grown("gateway_cost_nanousd_total", model=MODEL) == cost * NANOS_PER_USD
    assert grown("ledger_operations_total", operation="PlaceHold", status="201") == REQUESTS
    assert grown("ledger_operations_total", operation="Charge", status="200") == REQUESTS
    assert scrape(stack.proxy.url).total("gateway_build_info") == 4
    assert scrape(stack.ledger.url).total("ledger_build_info") == 2


def test_a_killed_worker_s_counts_stay_and_what_it_was_doing_goes(workers: Workers) -> None:
    stack = workers.stack
    account, gate = stack.account("1"), "killed-worker"
    before = scrape(stack.proxy.url)
    stream = stack.openai().chat.completions.create(
        model=MODEL, messages=say(f"[[sim tokens=9 gate={gate}]]"), user=account, stream=True
    )
    stack.release(gate, 1)
    next(iter(stream))
    pid = worker_with(workers.proxy_files, "gateway_streams_open")
    during = scrape(stack.proxy.url)

    os.kill(pid, signal.SIGKILL)
    with pytest.raises((httpx.HTTPError, openai.APIConnectionError)):
        list(stream)
    stack.proxy.wait_for_log(f"Child process [{pid}] died", PATIENCE_SECONDS)
    after = scrape(stack.proxy.url)

    assert during.total("gateway_streams_open") == during.total("gateway_holds_open") == 1
    assert after.total("gateway_streams_open") == after.total("gateway_holds_open") == 0
    for name in ("gateway_completions_total", "gen_ai_client_token_usage_total"):
        assert after.by_labels(name, {}) == before.by_labels(name, {})
    chunks = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    assert after.total(chunks) == sum(before.by_labels(chunks, {})) + 1


def test_a_killed_worker_of_the_ledger_takes_no_count_with_it(workers: Workers) -> None:
    stack = workers.stack
    account = stack.account("1")
    for _ in range(REQUESTS // 4):
        _ask(stack, account)
    before = scrape(stack.ledger.url)
    pids = {int(file.stem.rpartition("_")[2]) for file in workers.ledger_files.glob("counter_*")}
    pid = max(pids)

    os.kill(pid, signal.SIGKILL)
    stack.ledger.wait_for_log(f"Child process [{pid}] died", PATIENCE_SECONDS)
    after = scrape(stack.ledger.url)

    for labels in ({"operation": "PlaceHold"}, {"operation": "Charge"}, {"operation": "TopUp"}):
        name = "ledger_operations_total"
        assert after.by_labels(name, labels) == before.by_labels(name, labels)


def test_open_holds_and_the_age_of_the_oldest_are_the_ledger_s_not_a_worker_s(
    workers: Workers,
) -> None:
    stack = workers.stack
    account, gate = stack.account("1"), "held"
    held_before = scrape(stack.ledger.url).total("ledger_holds_open")
    stream = stack.openai().chat.completions.create(
        model=MODEL, messages=say(f"[[sim tokens=9 gate={gate}]]"), user=account, stream=True
    )
    stack.release(gate, 1)
    next(iter(stream))

    seen = _wait_for_scrape(stack.ledger.url, "ledger_holds_open", held_before + 1)
    stack.open_gate(gate)
    assert list(stream)

    assert seen.total("ledger_holds_oldest_timestamp_seconds") > 0
    _wait_for_scrape(stack.ledger.url, "ledger_holds_open", held_before)


def test_the_last_check_of_the_ledger_is_told_by_all_workers(workers: Workers) -> None:
    workers.stack.assert_ledger_is_sound()

    for _ in range(4):
        seen = scrape(workers.stack.ledger.url)
        assert seen.total("ledger_integrity_violations") == 0
        assert seen.total("ledger_integrity_checked_timestamp_seconds") > 0
