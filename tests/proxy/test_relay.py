"""The one way through: what is authorised, refused and charged."""

import asyncio

import pytest

from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, UsageMetadata
from support.fakes import FakeBilling, text_chunk
from support.orders import OUTPUT_NANOS, make_order
from support.relay_bench import USD, Bench, read_all


async def test_the_last_reported_usage_is_charged_once(bench: Bench) -> None:
    completion = await bench.relay().open(make_order())

    assert await read_all(completion) == 2
    settled = await completion.settle()

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 5 * OUTPUT_NANOS == settled.charged_nanos
    assert settlement.key == "settle-chatcmpl-test"
    assert settlement.account == "alice"
    assert settlement.price["exact_cost_pico"] == str(settlement.amount_nanos * 1_000)
    assert settlement.metadata == {
        "completion_id": "chatcmpl-test",
        "request_id": "req_test",
        "key": "tester",
    }
    assert bench.billing.available_nanos == 5 * USD - settlement.amount_nanos


async def test_settling_again_charges_nothing_more(bench: Bench) -> None:
    completion = await bench.relay().open(make_order())
    await read_all(completion)

    assert await completion.settle() == await completion.settle()
    completion.abandon()

    assert len(bench.billing.settlements) == 1


async def test_the_output_limit_is_lowered_to_what_can_be_paid(bench: Bench) -> None:
    bench.billing.available_nanos = 116 * 300 + 5_000 * OUTPUT_NANOS
    completion = await bench.relay().open(make_order())

    (body,) = bench.gemini.bodies
    assert body["generationConfig"]["maxOutputTokens"] == 5_000
    assert completion.lowered_max_tokens == 5_000
    await completion.settle()


async def test_the_clients_own_limit_is_kept_where_it_can_be_paid(bench: Bench) -> None:
    order = make_order(
        body={"contents": [], "generationConfig": {"maxOutputTokens": 70}}, max_output_tokens=70
    )
    completion = await bench.relay().open(order)

    (body,) = bench.gemini.bodies
    assert body["generationConfig"]["maxOutputTokens"] == 70
    assert completion.lowered_max_tokens is None
    await completion.settle()


async def test_a_thin_balance_gets_an_exact_count(bench: Bench) -> None:
    """What can't pay for the bound may still pay for the prompt as it really is."""
    bench.billing.available_nanos = 10 * 300 + 80 * OUTPUT_NANOS
    completion = await bench.relay().open(make_order())

    assert completion.lowered_max_tokens == 80
    await completion.settle()


async def test_less_than_a_useful_answer_is_refused(bench: Bench) -> None:
    bench.billing.available_nanos = 10 * 300 + 60 * OUTPUT_NANOS

    with pytest.raises(InsufficientCreditError):
        await bench.relay().open(make_order())

    assert bench.gemini.bodies == []


async def test_a_request_waits_a_moment_for_credit_that_running_ones_hold(bench: Bench) -> None:
    bench.billing.available_nanos = 2 * 116 * 300 + 4_096 * OUTPUT_NANOS
    relay = bench.relay()
    first = await relay.open(make_order(completion_id="chatcmpl-1"))

    opening = asyncio.create_task(relay.open(make_order(completion_id="chatcmpl-2")))
    await bench.billing.refused.wait()
    await first.settle()
    second = await opening

    await second.settle()
    assert len(bench.billing.settlements) == 2


async def test_nothing_is_served_while_it_is_unknown_who_can_pay(bench: Bench) -> None:
    bench.billing.unavailable = True

    with pytest.raises(BillingUnavailableError):
        await bench.relay().open(make_order())

    assert bench.gemini.bodies == []


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refused_request_costs_nothing(bench: Bench, *, streamed: bool) -> None:
    bench.gemini.items = [GeminiError(503, "UNAVAILABLE", "overloaded")]

    with pytest.raises(GeminiError):
        await bench.relay().open(make_order(streamed=streamed, max_output_tokens=100))

    assert bench.billing.released == ["hold-chatcmpl-test"]
    assert bench.billing.available_nanos == 5 * USD


async def test_an_answer_without_usage_is_not_charged(bench: Bench) -> None:
    chunk = text_chunk("hi")
    chunk.usage_metadata = UsageMetadata()
    bench.gemini.items = [chunk]
    completion = await bench.relay().open(make_order())
    await read_all(completion)

    await completion.settle()

    assert bench.billing.settlements == []
    assert bench.billing.available_nanos == 5 * USD


async def test_without_enforcement_nothing_is_held(bench: Bench) -> None:
    bench.billing = FakeBilling(0, enforced=False)
    completion = await bench.relay().open(make_order())

    await read_all(completion)
    await completion.settle()

    (settlement,) = bench.billing.settlements
    assert settlement.hold_id == ""


async def test_gemini_gets_the_limit_that_the_hold_assumes(bench: Bench) -> None:
    """Also where the client sets none: an operator's catalogue may have a lower one."""
    completion = await bench.relay().open(make_order(max_output_tokens=1_500))

    (body,) = bench.gemini.bodies
    assert body["generationConfig"] == {"maxOutputTokens": 1_500}
    await completion.settle()


async def test_a_limit_made_small_is_not_spent_on_thinking(bench: Bench) -> None:
    bench.billing.available_nanos = 10 * 300 + 80 * OUTPUT_NANOS
    completion = await bench.relay().open(make_order())

    (body,) = bench.gemini.bodies
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}
    await completion.settle()


async def test_a_hold_whose_answer_was_lost_is_withdrawn(bench: Bench) -> None:
    relay = bench.relay()
    bench.billing.unavailable = True

    with pytest.raises(BillingUnavailableError):
        await relay.open(make_order())
    await relay.aclose(timeout_seconds=30)

    assert bench.billing.withdrawn == ["hold-chatcmpl-test"]
