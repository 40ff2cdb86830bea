"""The one way through: what is held, raised, cut off and charged."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError, UsageMetadata
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.relay import Relay
from support.fakes import FakeBilling, FakeGemini, text_chunk
from support.orders import OUTPUT_NANOS, make_order

USD = 1_000_000_000


class Bench:
    """A relay over a fake Gemini and one account."""

    def __init__(self, metrics: ProxyMetrics) -> None:
        self.gemini = FakeGemini(
            [text_chunk("hi", output=4), text_chunk("", output=5, finish="STOP")]
        )
        self.billing = FakeBilling(5 * USD)
        self.metrics = metrics
        self.drain = True
        self.policy = HoldPolicy.WINDOWED

    def relay(self) -> Relay:
        return Relay(
            gemini=self.gemini,
            billing=self.billing,
            metrics=self.metrics,
            policy=self.policy,
            drain_on_disconnect=self.drain,
        )

    def holds_open(self) -> float:
        return self.metrics.readings().total("gateway_holds_open")


@pytest.fixture
async def bench(metrics: ProxyMetrics) -> AsyncIterator[Bench]:
    bench = Bench(metrics)
    yield bench
    assert not bench.billing.holds, "a hold was left"
    assert bench.holds_open() == 0


async def read_all(completion: Completion) -> int:
    chunks = 0
    while received := await completion.receive():
        chunks += len(received)
    return chunks


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


async def test_a_first_request_holds_a_window_not_the_worst_case(bench: Bench) -> None:
    """Else an account with 5 dollars could not run many short answers side by side."""
    relay = bench.relay()
    completion = await relay.open(make_order())

    held = 5 * USD - bench.billing.available_nanos

    assert held == 116 * 300 + 4_096 * OUTPUT_NANOS
    await completion.settle()


async def test_the_worst_case_is_held_where_it_is_a_small_part(bench: Bench) -> None:
    bench.billing.available_nanos = 1_000 * USD
    relay = bench.relay()
    await (await relay.open(make_order())).settle()  # shows what the account has

    completion = await relay.open(make_order(completion_id="chatcmpl-2"))

    assert bench.billing.holds["hold-chatcmpl-2"] == 116 * 300 + 65_536 * OUTPUT_NANOS
    await completion.settle()


async def test_strict_always_holds_the_worst_case(bench: Bench) -> None:
    bench.policy = HoldPolicy.STRICT
    completion = await bench.relay().open(make_order())

    assert bench.billing.holds["hold-chatcmpl-test"] == 116 * 300 + 65_536 * OUTPUT_NANOS
    await completion.settle()


async def test_a_growing_answer_raises_its_hold_in_few_steps(bench: Bench) -> None:
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 20_001, 50)]
    completion = await bench.relay().open(make_order())

    await read_all(completion)
    held = bench.billing.holds["hold-chatcmpl-test"]
    settled = await completion.settle()

    assert held >= settled.charged_nanos == 3_000 + 20_000 * OUTPUT_NANOS
    assert len(bench.billing.progress_nanos) == 6
    assert bench.billing.progress_nanos == sorted(bench.billing.progress_nanos)


async def test_an_answer_is_cut_off_before_it_costs_more_than_there_is(bench: Bench) -> None:
    """Something else on the account used up what the answer could count on at its start."""
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 20_001, 50)]
    completion = await bench.relay().open(make_order())
    bench.billing.available_nanos = 1_900 * OUTPUT_NANOS
    credit_nanos = sum(bench.billing.holds.values()) + bench.billing.available_nanos

    await read_all(completion)
    settled = await completion.settle()

    assert completion.cut_off
    assert bench.gemini.streams[0].closed
    assert settled.charged_nanos <= credit_nanos
    assert settled.charged_nanos > credit_nanos - 200 * OUTPUT_NANOS
    assert bench.billing.available_nanos >= 0


async def test_gemini_is_stopped_if_it_goes_beyond_its_limit_and_the_credit(bench: Bench) -> None:
    bench.billing.available_nanos = 116 * 300 + 5_000 * OUTPUT_NANOS
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 20_001, 50)]
    completion = await bench.relay().open(make_order())

    await read_all(completion)
    settled = await completion.settle()

    assert completion.lowered_max_tokens == 5_000
    assert completion.cut_off
    assert settled.charged_nanos <= 10 * 300 + 5_100 * OUTPUT_NANOS


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


async def test_a_running_answer_is_finished_while_the_ledger_is_away(bench: Bench) -> None:
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 10_001, 50)]
    completion = await bench.relay().open(make_order())
    bench.billing.unavailable = True

    assert await read_all(completion) == 200
    settled = await completion.settle()

    assert settled.charged_nanos == 3_000 + 10_000 * OUTPUT_NANOS


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refused_request_costs_nothing(bench: Bench, *, streamed: bool) -> None:
    bench.gemini.items = [GeminiError(503, "UNAVAILABLE", "overloaded")]

    with pytest.raises(GeminiError):
        await bench.relay().open(make_order(streamed=streamed, max_output_tokens=100))

    assert bench.billing.released == ["hold-chatcmpl-test"]
    assert bench.billing.available_nanos == 5 * USD


async def test_an_answer_without_usage_is_not_charged(bench: Bench) -> None:
    chunk = text_chunk("")
    chunk.usage_metadata = UsageMetadata()
    bench.gemini.items = [chunk]
    completion = await bench.relay().open(make_order())
    await read_all(completion)

    await completion.settle()

    assert bench.billing.settlements == []
    assert bench.billing.available_nanos == 5 * USD


async def test_a_unary_answer_is_one_call_where_its_worst_case_is_held(bench: Bench) -> None:
    completion = await bench.relay().open(make_order(streamed=False, max_output_tokens=100))

    assert bench.gemini.streams == []
    assert await read_all(completion) == 1
    await completion.settle()


async def test_a_unary_answer_is_metered_where_its_worst_case_is_not_held(bench: Bench) -> None:
    completion = await bench.relay().open(make_order(streamed=False))

    assert len(bench.gemini.streams) == 1
    await completion.settle()


async def test_a_client_that_leaves_pays_for_the_whole_answer(bench: Bench) -> None:
    """Google goes on and charges when a client leaves."""
    bench.gemini.gate = asyncio.Event()
    relay = bench.relay()
    completion = await relay.open(make_order())

    completion.abandon()
    bench.gemini.gate.set()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 5 * OUTPUT_NANOS
    assert "estimated" not in settlement.metadata
    assert bench.gemini.streams[0].closed


async def test_cancel_mode_stops_gemini_and_charges_what_was_reported(bench: Bench) -> None:
    bench.drain = False
    relay = bench.relay()
    completion = await relay.open(make_order())
    await completion.receive()

    completion.abandon()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 4 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True
    assert bench.gemini.streams[0].closed


async def test_what_breaks_off_while_draining_is_charged_as_far_as_it_was_reported(
    bench: Bench,
) -> None:
    bench.gemini.items = [text_chunk("x", output=4), GeminiUnreachableError("reset")]
    relay = bench.relay()
    completion = await relay.open(make_order())

    completion.abandon()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 4 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True


async def test_a_drain_that_does_not_end_is_settled_when_the_process_ends(bench: Bench) -> None:
    bench.gemini.gate = asyncio.Event()  # never opened
    relay = bench.relay()
    completion = await relay.open(make_order())
    await completion.receive()

    completion.abandon()
    await asyncio.sleep(0)
    await relay.aclose(timeout_seconds=0)

    (settlement,) = bench.billing.settlements
    assert settlement.metadata["estimated"] is True


async def test_a_request_cancelled_while_it_settles_is_charged_all_the_same(bench: Bench) -> None:
    relay = bench.relay()
    completion = await relay.open(make_order())
    await read_all(completion)

    request = asyncio.create_task(completion.settle())
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    completion.abandon()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert len(bench.billing.settlements) == 1


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


async def test_an_answer_is_not_cut_off_once_there_is_credit_again(bench: Bench) -> None:
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 9_001, 50)]
    completion = await bench.relay().open(make_order())
    bench.billing.available_nanos = 100 * OUTPUT_NANOS
    while completion.usage is None or completion.usage.output_tokens < 3_200:
        await completion.receive()
    await bench.billing.refused.wait()

    bench.billing.available_nanos += 1 * USD
    meter = completion._meter
    assert meter is not None
    meter._heartbeat_at = 0
    await read_all(completion)

    assert not completion.cut_off
    await completion.settle()


async def test_a_hold_whose_answer_was_lost_is_withdrawn(bench: Bench) -> None:
    relay = bench.relay()
    bench.billing.unavailable = True

    with pytest.raises(BillingUnavailableError):
        await relay.open(make_order())
    await relay.aclose(timeout_seconds=30)

    assert bench.billing.withdrawn == ["hold-chatcmpl-test"]


async def test_the_end_of_the_process_waits_for_charges_that_are_under_way(bench: Bench) -> None:
    """The client left while its answer was being settled; then the process is told to end."""
    relay = bench.relay()
    completion = await relay.open(make_order())
    await read_all(completion)
    bench.billing.settling = asyncio.Event()
    request = asyncio.create_task(completion.settle())
    await asyncio.sleep(0)
    request.cancel()
    closing = asyncio.create_task(relay.aclose(timeout_seconds=0))
    await asyncio.sleep(0)

    bench.billing.settling.set()
    await closing

    assert len(bench.billing.settlements) == 1


async def test_what_still_runs_when_the_process_ends_is_charged_as_reported(bench: Bench) -> None:
    """The server closes the app before the requests that it cancels have noticed."""
    bench.gemini.gate = asyncio.Event()  # never opened
    relay = bench.relay()
    await relay.open(make_order())

    await relay.aclose(timeout_seconds=0)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 4 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True
    assert bench.gemini.streams[0].closed
