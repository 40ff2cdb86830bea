"""Settlements that can't be delivered at once: kept, delivered later, booked once."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import respx
import structlog

from ai_proxy_service.core.errors import (
    BillingUnavailableError,
)
from ai_proxy_service.services import billing_service
from ai_proxy_service.services.outbox import Outbox
from support.billing_bench import BILLED, SETTLEMENT, Parts, problem


async def test_a_settlement_that_cannot_be_delivered_is_kept_and_delivered_later(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/bill").mock(side_effect=httpx.ConnectError("down"))
    before = time.time()
    settled = await parts.service.settle(SETTLEMENT)
    assert (settled.charged_nanos, settled.status) == (12_345, "pending")
    assert await parts.outbox.count() == 1
    oldest = "gateway_settlements_oldest_timestamp_seconds"
    assert before <= parts.metrics.readings().total(oldest) <= time.time()

    route.mock(side_effect=None, return_value=httpx.Response(200, json=BILLED))
    await parts.deliver_until_empty()

    assert await parts.outbox.count() == 0
    assert parts.metrics.readings().total(oldest) == 0
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
        oldest=parts.metrics.settlements_oldest,
        failed=parts.metrics.settlements_failed,
    )

    assert await reopened.count() == 1
    await reopened.aclose()


async def test_a_settlement_that_is_refused_for_good_is_kept_for_the_operator(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(503)
    await parts.service.settle(SETTLEMENT)
    ledger.post("/api/v1/bill").mock(return_value=problem(422, "invalid_amount"))
    await parts.deliver_until_empty()

    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 1


async def test_a_charge_that_neither_ledger_nor_disk_takes_is_written_to_the_log(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(503)
    await parts.outbox.aclose()

    with structlog.testing.capture_logs() as entries:
        settled = await parts.service.settle(SETTLEMENT)

    assert settled.status == "pending"
    (entry,) = [entry for entry in entries if entry["event"] == "settlement_not_kept"]
    assert entry["body"] == billing_service.bill_body(SETTLEMENT)
    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 1


async def test_the_outbox_goes_on_after_an_unexpected_failure(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/bill").respond(503)
    await parts.service.settle(SETTLEMENT)
    route.mock(side_effect=[RuntimeError("a bug"), httpx.Response(200, json=BILLED)])

    await parts.deliver_until_empty()

    assert await parts.outbox.count() == 0


async def test_one_settlement_that_fails_holds_up_no_other(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(503)
    await parts.service.settle(SETTLEMENT)
    await parts.service.settle(replace(SETTLEMENT, key="settle-chatcmpl-2"))
    delivered = asyncio.Event()

    async def deliver(key: str, _body: bytes) -> None:
        if key == SETTLEMENT.key:
            raise BillingUnavailableError
        delivered.set()

    task = asyncio.create_task(parts.outbox.deliver_all(deliver))
    await asyncio.wait_for(delivered.wait(), 30)
    task.cancel()

    assert await parts.outbox.count() == 1
