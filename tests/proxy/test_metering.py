"""How much is held, how the hold follows the answer, and where the answer is cut off."""

import pytest

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.pricing import cost_of
from support.fakes import text_chunk
from support.orders import CATALOG, OUTPUT_NANOS, make_order
from support.relay_bench import USD, Bench, read_all


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


async def test_a_running_answer_is_finished_while_the_ledger_is_away(bench: Bench) -> None:
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 10_001, 50)]
    completion = await bench.relay().open(make_order())
    bench.billing.unavailable = True

    assert await read_all(completion) == 200
    settled = await completion.settle()

    assert settled.charged_nanos == 3_000 + 10_000 * OUTPUT_NANOS


async def test_a_unary_answer_is_one_call_where_its_worst_case_is_held(bench: Bench) -> None:
    bench.gemini.items = [text_chunk("hi", output=5, finish="STOP")]
    completion = await bench.relay().open(make_order(streamed=False, max_output_tokens=100))

    assert bench.gemini.streams == []
    assert await read_all(completion) == 1
    await completion.settle()


async def test_a_unary_answer_is_metered_where_its_worst_case_is_not_held(bench: Bench) -> None:
    completion = await bench.relay().open(make_order(streamed=False))

    assert len(bench.gemini.streams) == 1
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


@pytest.mark.parametrize("streamed", [True, False])
async def test_thinking_that_is_not_shown_is_metered_all_the_same(
    bench: Bench, *, streamed: bool
) -> None:
    """The credit ends before there is a word: the answer is cut off, not asked for again."""
    bench.billing.available_nanos = 20_000_000
    hidden = [text_chunk("", thoughts=tokens) for tokens in range(500, 19_000, 500)]
    bench.gemini.items = [*hidden, text_chunk("x", thoughts=19_000, output=5, finish="STOP")]

    completion = await bench.relay().start(make_order(streamed=streamed))
    await completion.settle()

    assert completion.cut_off
    assert len(bench.billing.settlements) == 1
    assert bench.gemini.streams[0].received < len(hidden)


async def test_the_hold_follows_input_that_grows_in_mid_stream(bench: Bench) -> None:
    """Google's own tools bring input that nobody could know of before."""
    quiet = [text_chunk("x", output=tokens) for tokens in (10, 20)]
    bench.gemini.items = [
        *quiet,
        *(text_chunk("x", tool_prompt=100_000, output=tokens) for tokens in range(30, 100, 10)),
    ]
    completion = await bench.relay().open(make_order(input_may_grow=True))

    await read_all(completion)
    held_nanos = bench.billing.holds["hold-chatcmpl-test"]
    settled = await completion.settle()

    assert held_nanos >= settled.charged_nanos == 100_010 * 300 + 90 * OUTPUT_NANOS


async def test_an_answer_is_cut_off_whose_input_grows_beyond_the_credit(bench: Bench) -> None:
    bench.billing.available_nanos = 116 * 300 + 5_000 * OUTPUT_NANOS
    bench.gemini.items = [
        text_chunk("x", output=10),
        text_chunk("x", tool_prompt=1_000_000, output=20),
        *(text_chunk("x", tool_prompt=1_000_000, output=tokens) for tokens in range(30, 100, 10)),
    ]
    completion = await bench.relay().open(make_order(input_may_grow=True))

    await read_all(completion)

    assert completion.cut_off
    assert bench.gemini.streams[0].received == 2
    await completion.settle()


async def test_what_a_text_prompt_did_not_cost_pays_for_output(bench: Bench) -> None:
    """A byte was held for as a token: once Gemini has counted, the rest is free again."""
    bench.gemini.items = [text_chunk("x", output=tokens) for tokens in range(50, 20_001, 50)]
    completion = await bench.relay().open(make_order(prompt_bound_tokens=40_000))
    bench.billing.available_nanos = 0
    held_nanos = bench.billing.holds["hold-chatcmpl-test"]

    await read_all(completion)
    settled = await completion.settle()

    assert completion.cut_off
    assert held_nanos - 100 * OUTPUT_NANOS <= settled.charged_nanos <= held_nanos


async def test_a_dear_prompt_is_on_record_from_the_first_report_on(bench: Bench) -> None:
    """Should the process die, the hold's progress is charged when it expires."""
    bench.gemini.items = [text_chunk("x", prompt=40_000, output=tokens) for tokens in (10, 20, 30)]
    completion = await bench.relay().open(make_order(prompt_bound_tokens=50_000))

    await read_all(completion)
    await completion.settle()

    assert bench.billing.progress_nanos == [40_000 * 300 + 10 * OUTPUT_NANOS]


async def test_a_prompt_beyond_the_tier_makes_output_dearer_for_the_meter_too(bench: Bench) -> None:
    price = CATALOG.models["gemini-2.5-pro"]
    bench.gemini.items = [
        text_chunk("x", output=10),
        *(text_chunk("x", tool_prompt=250_000, output=tokens) for tokens in range(20, 20_000, 50)),
    ]
    order = make_order(model="gemini-2.5-pro", price=price, input_may_grow=True)
    completion = await bench.relay().open(order)

    while completion.usage is None or completion.usage.output_tokens < 15_000:
        await completion.receive()
    held_nanos = bench.billing.holds["hold-chatcmpl-test"]

    assert held_nanos >= cost_of(completion.usage, price).amount_nanos
    await completion.settle()
