"""The client of the credits service, and the outbox, where things go wrong."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import respx
import structlog

from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.interfaces import Hold, Settlement
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services import billing_service
from ai_proxy_service.services.billing_service import CreditsBillingService
from ai_proxy_service.services.outbox import Outbox

URL = "http://credits.test"
HOLD = {"hold_id": "h1", "amount": "0.5", "available": "1.25"}
SETTLEMENT = Settlement(
    key="settle-chatcmpl-1",
    account="alice",
    hold_id="h1",
    amount_nanos=12_345,
    description="d",
    usage={"prompt_tokens": 1},
    price={"model": "m"},
    metadata={"completion_id": "chatcmpl-1"},
)


class Parts:
    """A billing service, its outbox, and its metrics."""

    def __init__(self, service: CreditsBillingService, outbox: Outbox, metrics: ProxyMetrics):
        self.service = service
        self.outbox = outbox
        self.metrics = metrics

    async def deliver_until_empty(self) -> None:
        """Let the outbox deliver, and wait until nothing waits any more."""
        task = asyncio.create_task(self.outbox.deliver_all(self.service.deliver))
        await asyncio.wait_for(self.outbox.emptied.wait(), 30)
        task.cancel()


@pytest.fixture
async def parts(
    tmp_path: Path, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Parts]:
    monkeypatch.setattr(billing_service, "PAUSE_SECONDS", 0)
    outbox = await Outbox.open(
        tmp_path / "outbox.sqlite3",
        waiting=metrics.settlements_waiting,
        failed=metrics.settlements_failed,
    )
    client = billing_service.connect(URL, "sk-credits")
    yield Parts(CreditsBillingService(client, outbox, metrics), outbox, metrics)
    await client.aclose()
    await outbox.aclose()


@pytest.fixture
def ledger() -> Iterator[respx.MockRouter]:
    # The aiohttp transport is below httpcore, so it is httpx itself that is intercepted.
    with respx.mock(base_url=URL, using="httpx") as router:
        yield router


async def place(parts: Parts) -> Hold:
    return await parts.service.hold("alice", 500_000_000, key="k", request_ref="req_1")


async def test_a_hold_carries_its_key_and_exact_amounts(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/holds").respond(201, json=HOLD)

    hold = await place(parts)

    assert hold == Hold("h1", 500_000_000, 1_250_000_000)
    request = route.calls.last.request
    assert request.headers["idempotency-key"] == "k"
    assert request.headers["authorization"] == "Bearer sk-credits"
    body = msgspec.json.decode(request.content)
    assert (body["user_id"], body["amount"]) == ("alice", "0.5")


async def test_a_402_says_what_there_is_and_whether_waiting_helps(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    problem = {"available": "0.1", "required": "0.5", "retryable": True}
    ledger.post("/api/v1/holds").respond(402, json=problem)

    with pytest.raises(InsufficientCreditError) as caught:
        await place(parts)

    assert caught.value.available_nanos == 100_000_000
    assert caught.value.retryable
    assert caught.value.status == 402


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500, 503])
async def test_anything_uncertain_is_unavailable_never_free(
    parts: Parts, ledger: respx.MockRouter, status: int
) -> None:
    ledger.post("/api/v1/holds").respond(status, json={"title": "x"})

    with pytest.raises(BillingUnavailableError):
        await place(parts)


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/holds").mock(
        side_effect=[httpx.ReadTimeout("lost"), httpx.Response(201, json=HOLD)]
    )

    await place(parts)

    assert [call.request.headers["idempotency-key"] for call in route.calls] == ["k", "k"]


async def test_a_settlement_that_cannot_be_delivered_is_kept_and_delivered_later(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/bill").mock(side_effect=httpx.ConnectError("down"))
    settled = await parts.service.settle(SETTLEMENT)
    assert (settled.charged_nanos, settled.delivered) == (12_345, False)
    assert await parts.outbox.count() == 1

    route.mock(side_effect=None, return_value=httpx.Response(200, json={}))
    await parts.deliver_until_empty()

    assert await parts.outbox.count() == 0
    sent = route.calls.last.request
    assert sent.headers["idempotency-key"] == SETTLEMENT.key
    assert msgspec.json.decode(sent.content) == billing_service.bill_body(SETTLEMENT)


async def test_a_settlement_in_the_outbox_survives_the_process(
    parts: Parts, ledger: respx.MockRouter, tmp_path: Path
) -> None:
    ledger.post("/api/v1/bill").mock(side_effect=httpx.ConnectError("down"))
    await parts.service.settle(SETTLEMENT)

    reopened = await Outbox.open(
        tmp_path / "outbox.sqlite3",
        waiting=parts.metrics.settlements_waiting,
        failed=parts.metrics.settlements_failed,
    )

    assert await reopened.count() == 1
    await reopened.aclose()


async def test_a_settlement_that_is_refused_for_good_is_kept_for_the_operator(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(503)
    await parts.service.settle(SETTLEMENT)
    ledger.post("/api/v1/bill").respond(422, json={"title": "no"})
    await parts.deliver_until_empty()

    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 1


async def test_a_wrong_credits_key_loses_no_settlement(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(401)

    with pytest.raises(BillingUnavailableError):
        await parts.service.deliver("k", b"{}")


async def test_a_hold_that_cannot_be_released_is_left_to_expire(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.delete("/api/v1/holds/h1").respond(503)

    await parts.service.release(Hold("h1", 1, None))


async def test_what_an_account_could_not_pay_is_counted(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(
        json={
            "transaction_id": "t",
            "amount": "0.00001",
            "shortfall": "0.000002345",
            "available": "0",
        }
    )

    settled = await parts.service.settle(SETTLEMENT)

    assert (settled.charged_nanos, settled.available_nanos, settled.delivered) == (10_000, 0, True)
    assert parts.metrics.readings().total("gateway_shortfall_nanousd_total") == 2_345


async def test_a_charge_that_neither_ledger_nor_disk_takes_is_written_to_the_log(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(503)
    await parts.outbox.aclose()

    with structlog.testing.capture_logs() as entries:
        settled = await parts.service.settle(SETTLEMENT)

    assert not settled.delivered
    (entry,) = [entry for entry in entries if entry["event"] == "settlement_not_kept"]
    assert entry["body"] == billing_service.bill_body(SETTLEMENT)
    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 1


async def test_the_outbox_goes_on_after_an_unexpected_failure(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/bill").respond(503)
    await parts.service.settle(SETTLEMENT)
    route.mock(side_effect=[RuntimeError("a bug"), httpx.Response(200, json={})])

    await parts.deliver_until_empty()

    assert await parts.outbox.count() == 0
