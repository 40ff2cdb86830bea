"""Parts of the proxy, made for one test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import respx

from ai_proxy_service.core import answering, kept_answers
from ai_proxy_service.core.answering import Answers
from ai_proxy_service.core.answers import AnswerStore
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services import credits_api
from ai_proxy_service.services.billing_service import CreditsBillingService
from ai_proxy_service.services.credits_api import CreditsApi
from ai_proxy_service.services.outbox import Outbox
from support.answer_runs import Process
from support.billing_bench import URL, Parts
from support.relay_bench import Bench
from support.usage_logs import MemoryUsageLog


@pytest.fixture
def metrics() -> ProxyMetrics:
    return ProxyMetrics()


@pytest.fixture
async def bench(metrics: ProxyMetrics) -> AsyncIterator[Bench]:
    bench = Bench(metrics)
    yield bench
    assert not bench.billing.holds, "a hold was left"
    assert bench.holds_open() == 0


@pytest.fixture
async def parts(
    tmp_path: Path, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Parts]:
    monkeypatch.setattr(credits_api, "RETRY_PAUSE_SECONDS", 0)
    outbox = await Outbox.open(
        tmp_path / "outbox.sqlite3",
        waiting=metrics.settlements_waiting,
        oldest=metrics.settlements_oldest,
        failed=metrics.settlements_failed,
    )
    api = CreditsApi(credits_api.connect(URL, "sk-credits"))
    log = MemoryUsageLog()
    yield Parts(CreditsBillingService(api, outbox, metrics, log), outbox, metrics, log)
    await api.aclose()
    await outbox.aclose()


@pytest.fixture
def ledger() -> Iterator[respx.MockRouter]:
    # The aiohttp transport is below httpcore, so it is httpx itself that is intercepted.
    with respx.mock(base_url=URL, using="httpx") as router:
        yield router


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """Make the answers of one process each, over a store that they share."""
    made: list[Answers] = []

    def make(store: AnswerStore) -> Answers:
        made.append(Answers(store, ProxyMetrics()))
        return made[-1]

    yield make
    for answers in made:
        await answers.aclose(0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is soon taken for dead, and says that it lives more often than that."""
    monkeypatch.setattr(kept_answers, "SILENCE_SECONDS_MAX", 0.5)
    monkeypatch.setattr(kept_answers, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(answering, "REPORT_PAUSE_SECONDS", 0.01)
