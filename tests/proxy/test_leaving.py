"""Clients that leave and processes that end: the charge is made all the same."""

import asyncio

import pytest

from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.core.relay import Relay
from support.fakes import Items, text_chunk
from support.orders import OUTPUT_NANOS, make_order
from support.relay_bench import Bench, read_all


async def half_collected(bench: Bench) -> tuple[Relay, asyncio.Task[Completion], asyncio.Event]:
    """Begin a whole answer, and wait until the rest of it stands at the gate."""
    bench.gemini.gate = gate = asyncio.Event()
    relay = bench.relay()
    opening = relay.start(make_order(streamed=False))
    await bench.gemini.asked.wait()
    await bench.gemini.streams[0].waiting.wait()
    return relay, opening, gate


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


async def _thinking(bench: Bench) -> tuple[Relay, asyncio.Task[Completion]]:
    """Begin an answer that has thought for a while, and has shown nothing of it."""
    bench.gemini.gate = asyncio.Event()  # never opened
    bench.gemini.items = [text_chunk("", thoughts=300), text_chunk("x", thoughts=300, output=1)]
    relay = bench.relay()
    opening = relay.start(make_order())
    await bench.gemini.asked.wait()
    await bench.gemini.streams[0].waiting.wait()
    return relay, opening


async def test_thinking_that_was_reported_is_charged_where_gemini_is_stopped(bench: Bench) -> None:
    bench.drain = False
    relay, opening = await _thinking(bench)

    relay.leave(opening)
    await bench.billing.ended.wait()

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 300 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True
    assert bench.gemini.streams[0].closed
    await relay.aclose(timeout_seconds=30)


async def test_thinking_that_was_reported_is_charged_when_the_process_ends(bench: Bench) -> None:
    relay, _ = await _thinking(bench)

    await relay.aclose(timeout_seconds=0)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 300 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True


async def test_thinking_before_a_failure_costs_nothing(bench: Bench) -> None:
    """Google charges for no request that fails."""
    failure = GeminiError(503, "UNAVAILABLE", "overloaded")
    bench.gemini.items = [text_chunk("", thoughts=300), failure]

    with pytest.raises(GeminiError):
        await bench.relay().open(make_order())

    assert bench.billing.settlements == []
    assert bench.billing.released == ["hold-chatcmpl-test"]


async def test_a_drain_is_bounded_in_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_proxy_service.core.completion.DRAIN_BYTES_MAX", 2_000)
    bench.gemini.items = [text_chunk("x" * 1_000, output=tokens) for tokens in range(1, 10)]
    relay = bench.relay()
    completion = await relay.open(make_order())

    completion.abandon()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 3 * OUTPUT_NANOS
    assert settlement.metadata["estimated"] is True
    assert bench.gemini.streams[0].closed


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


@pytest.mark.parametrize("streamed", [True, False])
async def test_who_leaves_a_request_that_then_fails_is_told_nothing(
    bench: Bench, *, streamed: bool
) -> None:
    bench.gemini.items = [GeminiUnreachableError("reset")]
    bench.gemini.opening = asyncio.Event()
    relay = bench.relay()
    opening = relay.start(make_order(streamed=streamed))
    await bench.gemini.asked.wait()

    relay.leave(opening)
    bench.gemini.opening.set()
    await relay.aclose(timeout_seconds=30)

    assert bench.billing.settlements == []
    assert bench.billing.released == ["hold-chatcmpl-test"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("drain", [True, False])
async def test_the_end_of_the_process_takes_over_what_nobody_has_left_yet(
    bench: Bench, *, streamed: bool, drain: bool
) -> None:
    bench.drain = drain
    bench.gemini.opening = asyncio.Event()  # never opened
    relay = bench.relay()
    relay.start(make_order(streamed=streamed))
    await bench.gemini.asked.wait()

    await relay.aclose(timeout_seconds=0)

    assert bench.billing.settlements == []
    assert bench.billing.released == ["hold-chatcmpl-test"]


async def test_leaving_what_is_settled_changes_nothing(bench: Bench) -> None:
    relay = bench.relay()
    opening = relay.start(make_order(streamed=False))
    completion = await opening
    await completion.settle()

    relay.leave(opening)
    relay.leave(opening)
    await relay.aclose(timeout_seconds=30)

    assert len(bench.billing.settlements) == 1


@pytest.mark.parametrize("drain", [True, False])
async def test_a_whole_answer_that_is_left_half_way_is_charged_once(
    bench: Bench, *, drain: bool
) -> None:
    bench.drain = drain
    relay, opening, gate = await half_collected(bench)

    relay.leave(opening)
    if drain:
        gate.set()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    output_tokens = 5 if drain else 4
    assert settlement.amount_nanos == 10 * 300 + output_tokens * OUTPUT_NANOS
    assert ("estimated" in settlement.metadata) is not drain
    assert bench.gemini.streams[0].closed


async def test_a_broken_answer_is_repeated_without_its_client_and_each_is_charged_once(
    bench: Bench,
) -> None:
    broken: Items = [text_chunk("", output=2, finish="MALFORMED_FUNCTION_CALL")]
    bench.gemini.scripts = [broken]
    bench.gemini.opening = asyncio.Event()
    relay = bench.relay()
    opening = relay.start(make_order())
    await bench.gemini.asked.wait()

    relay.leave(opening)
    bench.gemini.opening.set()
    await relay.aclose(timeout_seconds=30)

    keys = [settlement.key for settlement in bench.billing.settlements]
    assert keys == ["settle-chatcmpl-test", "settle-chatcmpl-test-2"]


async def test_an_answer_that_is_being_collected_when_the_process_ends_has_one_reader(
    bench: Bench,
) -> None:
    relay, opening, gate = await half_collected(bench)

    closing = asyncio.create_task(relay.aclose(timeout_seconds=30))
    gate.set()
    await closing

    assert len(opening.result().collected) == 2
    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 5 * OUTPUT_NANOS
    assert "estimated" not in settlement.metadata


async def test_an_answer_that_is_there_in_the_moment_the_process_ends_is_charged(
    bench: Bench,
) -> None:
    relay, opening, gate = await half_collected(bench)
    relay.leave(opening)
    # Whoever waits for it is told to end before it can take the answer over.
    (waiting,) = (
        task
        for task in asyncio.all_tasks()
        if task.get_name() == opening.get_name() and task is not opening
    )
    opening.add_done_callback(lambda _: waiting.cancel())

    gate.set()
    await relay.aclose(timeout_seconds=30)

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 10 * 300 + 5 * OUTPUT_NANOS
