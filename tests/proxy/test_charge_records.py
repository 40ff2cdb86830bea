"""Each charge is put on record, whatever becomes of it, and an answer tells all that it cost."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from ai_proxy_service.core.pricing import LineItem
from ai_proxy_service.core.settlement import Settled
from ai_proxy_service.core.usage_log import LateOutcome
from ai_proxy_service.services.logging_billing import LoggingBillingService
from support.asgi_exchange import running_app
from support.billing_bench import BILLED, SETTLEMENT, Parts, problem
from support.fakes import FakeBilling, FakeGemini, Items, text_chunk
from support.orders import OUTPUT_NANOS, make_order
from support.relay_bench import USD, Bench, read_all

PROMPT_NANOS = 10 * 300
GOOD: Items = [text_chunk("hi", output=4), text_chunk("", output=5, finish="STOP")]
BROKEN: Items = [text_chunk("", output=2, finish="MALFORMED_FUNCTION_CALL")]
FREE: Items = [text_chunk("hi", prompt=0, finish="STOP")]
CHAT: dict[str, Any] = {
    "model": "gemini-2.5-flash",
    "messages": [{"role": "user", "content": "hi"}],
}


async def complete(bench: Bench, **order: Any) -> Settled:
    completion = await bench.relay().start(make_order(**order))
    if completion.order.streamed:
        await read_all(completion)
    return await completion.settle()


async def test_a_charge_is_on_record_with_the_lines_that_it_is_the_sum_of(bench: Bench) -> None:
    await complete(bench)

    (record,) = bench.log.records
    (settlement,) = bench.billing.settlements
    assert (record.completion_id, record.attempt) == ("chatcmpl-test", 1)
    assert (record.account, record.key_name, record.request_id) == ("alice", "tester", "req_test")
    assert (record.status, record.hold_id) == ("charged", settlement.hold_id)
    assert record.items == (LineItem("input", 10, 300_000), LineItem("output", 5, 2_500_000))
    assert record.exact_cost_pico == sum(item.cost_pico for item in record.items)
    assert record.amount_nanos == record.charged_nanos == settlement.amount_nanos
    assert record.usage == settlement.usage
    assert record.started_at_micros <= record.ended_at_micros


async def test_an_answer_that_costs_nothing_is_on_record(bench: Bench) -> None:
    bench.gemini.items = FREE

    settled = await complete(bench)

    (record,) = bench.log.records
    assert (record.status, record.amount_nanos, record.items) == ("free", 0, ())
    assert bench.billing.released == [record.hold_id]
    assert settled.charged_nanos == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_both_attempts_are_on_record_and_the_answer_costs_both(
    bench: Bench, *, streamed: bool
) -> None:
    bench.gemini.scripts = [BROKEN, GOOD]

    settled = await complete(bench, streamed=streamed)

    first, second = bench.log.records
    assert [first.billing_key, second.billing_key] == ["chatcmpl-test", "chatcmpl-test-2"]
    assert first.ended_at_micros <= second.started_at_micros
    costs = [PROMPT_NANOS + tokens * OUTPUT_NANOS for tokens in (2, 5)]
    assert [first.charged_nanos, second.charged_nanos] == costs
    assert settled.charged_nanos == sum(costs)


async def test_where_nothing_is_billed_it_is_on_record_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "billing", LoggingBillingService())
    completion = await bench.relay().start(make_order())
    await read_all(completion)
    await completion.settle()
    monkeypatch.undo()

    (record,) = bench.log.records
    assert (record.status, record.charged_nanos, record.hold_id) == ("not_billed", 0, None)
    assert record.amount_nanos == PROMPT_NANOS + 5 * OUTPUT_NANOS


async def test_a_client_that_left_is_on_record(bench: Bench) -> None:
    bench.drain = False
    relay = bench.relay()
    completion = await relay.start(make_order())
    completion.abandon()
    await relay.aclose(5)

    (record,) = bench.log.records
    assert (record.status, record.estimated) == ("charged", True)
    assert record.usage["candidates_tokens"] == 4


@pytest.mark.parametrize(
    ("answer", "settled"),
    [
        (
            httpx.Response(200, json={**BILLED, "amount": "0.00001", "shortfall": "0.000002345"}),
            Settled(10_000, USD, "charged", 2_345, "t"),
        ),
        (httpx.Response(503), Settled(12_345, None, "pending")),
        (problem(422, "invalid_amount"), Settled(0, None, "refused")),
    ],
    ids=["charged", "pending", "refused"],
)
async def test_a_settlement_tells_what_became_of_it(
    parts: Parts, ledger: respx.MockRouter, answer: httpx.Response, settled: Settled
) -> None:
    ledger.post("/api/v1/bill").mock(return_value=answer)

    assert await parts.service.settle(SETTLEMENT) == settled


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (
            httpx.Response(200, json={**BILLED, "shortfall": "0.000000045"}),
            ("charged", 12_345, 45, "t"),
        ),
        (problem(422, "invalid_amount"), ("refused", 0, 0, None)),
    ],
    ids=["charged", "refused"],
)
async def test_what_is_delivered_late_completes_its_record(
    parts: Parts, ledger: respx.MockRouter, answer: httpx.Response, outcome: tuple[object, ...]
) -> None:
    route = ledger.post("/api/v1/bill").mock(return_value=httpx.Response(503))
    await parts.service.settle(SETTLEMENT)
    assert parts.log.outcomes == []

    route.mock(return_value=answer)
    await parts.deliver_until_empty()

    (late,) = parts.log.outcomes
    assert isinstance(late, LateOutcome)
    assert (late.completion_id, late.attempt) == ("chatcmpl-1", 1)
    told = (late.status, late.charged_nanos, late.shortfall_nanos, late.transaction_id)
    assert told == outcome


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_answer_says_what_it_cost_with_a_first_attempt(
    tmp_path: Path, path: str, *, stream: bool
) -> None:
    gemini, billing = FakeGemini(GOOD, scripts=[BROKEN]), FakeBilling(USD)
    body = {**CHAT, "stream": stream}
    if "chat" not in path:
        body["prompt"] = "hi"
        del body["messages"]
    if stream:
        body["stream_options"] = {"include_usage": True}
    async with running_app(tmp_path, gemini, billing) as app:
        answer = await app.post(path, **body).end()

    usage = answer.events()[-2]["usage"] if stream else answer.json()["usage"]
    # 3,000 for the prompt and 2,500 a token, twice.
    assert usage["cost"] == "0.0000235"
    assert usage["completion_tokens"] == 5
    assert sum(charge.amount_nanos for charge in billing.settlements) == 23_500
    if not stream:
        assert answer.headers["x-credits-charged"] == usage["cost"]


async def test_several_prompts_cost_what_each_costs_and_are_one_answer(tmp_path: Path) -> None:
    billing = FakeBilling(USD)
    async with running_app(tmp_path, FakeGemini(GOOD), billing) as app:
        asking = app.post("/v1/completions", model="gemini-2.5-flash", prompt=["a", "b", "c"])
        answer = (await asking.end()).json()
        receipt = (await app.get(f"/v1/receipts/{answer['id']}").end()).json()

    assert answer["usage"]["cost"] == receipt["cost"] == "0.0000465"
    assert receipt["id"] == answer["id"]
    assert [charge["completion_id"] for charge in receipt["charges"]] == [
        answer["id"],
        f"{answer['id']}.2",
        f"{answer['id']}.3",
    ]
    assert [f"settle-{charge['completion_id']}" for charge in receipt["charges"]] == [
        settlement.key for settlement in billing.settlements
    ]
