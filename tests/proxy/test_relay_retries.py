"""Made again, once: refusals that may pass, answers that can't be used, and what each costs."""

from typing import Any

import pytest

from ai_proxy_service.core import authoriser
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import UpstreamError
from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.core.interfaces import Hold, HoldRequest
from ai_proxy_service.core.order import Order
from support.chats import gemini
from support.fakes import Items, text_chunk
from support.orders import OUTPUT_NANOS, make_order
from support.relay_bench import USD, Bench, read_all

PROMPT_NANOS = 10 * 300
OVERLOADED = GeminiError(503, "UNAVAILABLE", "overloaded")
INTERNAL = GeminiError(500, "INTERNAL", "internal")
CORRUPTED = GeminiError(400, "INVALID_ARGUMENT", "Corrupted thought signature.")
PLAIN: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "plain"}]}]}


def counts(tokens: int) -> dict[str, int]:
    return {
        "promptTokenCount": 10,
        "candidatesTokenCount": tokens,
        "totalTokenCount": 10 + tokens,
    }


def ended(reason: str, tokens: int = 2) -> GenerateContentResponse:
    """Return a chunk without content that ends the answer."""
    return gemini([{"finishReason": reason}], usageMetadata=counts(tokens))


GOOD: Items = [text_chunk("hi", output=4), text_chunk("", output=5, finish="STOP")]
BROKEN: Items = [ended("MALFORMED_FUNCTION_CALL")]


def other_key_error() -> GeminiError:
    error = GeminiError(429, "RESOURCE_EXHAUSTED", "quota")
    error.other_key_may_help = True
    return error


async def obtain(bench: Bench, order: Order) -> Completion:
    """Return a completion in the way its client wants it, read to the end and settled."""
    relay = bench.relay()
    completion = await relay.start(order)
    if order.streamed:
        await read_all(completion)
    await completion.settle()
    return completion


def charges(bench: Bench) -> list[tuple[str, int]]:
    return [(item.key, item.amount_nanos) for item in bench.billing.settlements]


def cost(output_tokens: int) -> int:
    return PROMPT_NANOS + output_tokens * OUTPUT_NANOS


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("error", [INTERNAL, other_key_error()], ids=["internal", "key"])
async def test_a_refusal_that_may_pass_is_tried_again_under_the_same_hold(
    bench: Bench, error: GeminiError, *, streamed: bool
) -> None:
    bench.gemini.scripts = [[error], GOOD]

    await obtain(bench, make_order(streamed=streamed))

    assert len(bench.gemini.bodies) == 2
    assert charges(bench) == [("settle-chatcmpl-test", cost(5))]
    assert bench.billing.released == []


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("scripts", "status", "requests"),
    [
        ([[INTERNAL], [INTERNAL], GOOD], 500, 2),
        ([[INTERNAL], [OVERLOADED], GOOD], 503, 2),
        ([[OVERLOADED], GOOD], 503, 1),
        ([[CORRUPTED], GOOD], 400, 1),
        ([[GeminiError(429, "RESOURCE_EXHAUSTED", "slow")], GOOD], 429, 1),
    ],
)
async def test_what_would_not_help_or_did_not_is_told_and_costs_nothing(
    bench: Bench, scripts: list[Items], status: int, requests: int, *, streamed: bool
) -> None:
    bench.gemini.scripts = list(scripts)

    with pytest.raises(GeminiError) as caught:
        await obtain(bench, make_order(streamed=streamed))

    assert caught.value.status == status
    assert len(bench.gemini.bodies) == requests
    assert charges(bench) == []
    assert bench.billing.available_nanos == 5 * USD


async def test_an_error_after_the_first_word_is_not_repaired(bench: Bench) -> None:
    bench.gemini.scripts = [[text_chunk("hi", output=4), INTERNAL], GOOD]
    relay = bench.relay()
    completion = await relay.open(make_order())

    with pytest.raises(GeminiError):
        await read_all(completion)
    await completion.settle(estimated=True)

    assert len(bench.gemini.bodies) == 1
    assert charges(bench) == [("settle-chatcmpl-test", cost(4))]


@pytest.mark.parametrize("streamed", [True, False])
async def test_signatures_that_are_refused_are_replaced(bench: Bench, *, streamed: bool) -> None:
    bench.gemini.scripts = [[CORRUPTED], GOOD]

    await obtain(bench, make_order(streamed=streamed, without_signatures=lambda: PLAIN))

    first, second = bench.gemini.bodies
    assert first["contents"] != PLAIN["contents"] == second["contents"]
    assert "maxOutputTokens" in second["generationConfig"]


UNUSABLE = [
    BROKEN,
    [ended("UNEXPECTED_TOOL_CALL")],
    [ended("MALFORMED_RESPONSE")],
    [ended("TOO_MANY_TOOL_CALLS")],
    [gemini([{"content": {}, "finishReason": 10}], usageMetadata=counts(2))],
    # Nothing to show before it: nobody has seen anything yet.
    [gemini(usageMetadata=counts(0)), *BROKEN],
    [text_chunk("", output=1), *BROKEN],
    # No end at all.
    [gemini([{"content": {"parts": []}}], usageMetadata=counts(2))],
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("unusable", UNUSABLE)
async def test_an_unusable_answer_is_asked_for_again_and_both_are_charged(
    bench: Bench, unusable: Items, *, streamed: bool
) -> None:
    """Google charges for what can't be used as well."""
    bench.gemini.scripts = [unusable, GOOD]

    completion = await obtain(bench, make_order(streamed=streamed))

    assert charges(bench) == [
        ("settle-chatcmpl-test", cost(2)),
        ("settle-chatcmpl-test-2", cost(5)),
    ]
    assert bench.billing.settlements[1].metadata["attempt"] == 2
    assert completion.usage is not None
    assert completion.usage.output_tokens == 5
    assert bench.gemini.streams[0].closed


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_empty_stream_is_asked_for_again(bench: Bench, *, streamed: bool) -> None:
    bench.gemini.scripts = [[], GOOD]

    await obtain(bench, make_order(streamed=streamed))

    assert charges(bench) == [("settle-chatcmpl-test-2", cost(5))]


async def test_a_second_stream_that_is_broken_is_an_error_of_its_own_status(bench: Bench) -> None:
    """Nothing has been sent yet, so that SDKs can still try for themselves."""
    bench.gemini.scripts = [BROKEN, BROKEN, GOOD]

    with pytest.raises(UpstreamError) as caught:
        await bench.relay().open(make_order())

    assert (caught.value.status, caught.value.code) == (502, "malformed_function_call")
    assert [amount for _, amount in charges(bench)] == [cost(2), cost(2)]


async def test_a_second_whole_answer_that_is_broken_is_handed_over_to_be_told(
    bench: Bench,
) -> None:
    bench.gemini.scripts = [BROKEN, BROKEN, GOOD]
    relay = bench.relay()

    completion = await relay.collect(make_order(streamed=False))
    assert completion.collected == BROKEN
    await completion.settle()

    assert len(bench.gemini.bodies) == 2
    assert [amount for _, amount in charges(bench)] == [cost(2), cost(2)]


@pytest.mark.parametrize("second", [OVERLOADED, INTERNAL])
async def test_a_repetition_that_is_refused_is_not_repeated(
    bench: Bench, second: GeminiError
) -> None:
    bench.gemini.scripts = [BROKEN, [second], GOOD]

    with pytest.raises(GeminiError):
        await bench.relay().open(make_order())

    assert len(bench.gemini.bodies) == 2
    assert charges(bench) == [("settle-chatcmpl-test", cost(2))]
    assert bench.billing.released == ["hold-chatcmpl-test-2"]


async def test_after_a_refusal_a_broken_answer_is_not_asked_for_a_third_time(bench: Bench) -> None:
    bench.gemini.scripts = [[INTERNAL], BROKEN, GOOD]

    with pytest.raises(UpstreamError):
        await bench.relay().open(make_order())

    assert len(bench.gemini.bodies) == 2


async def test_a_missing_signature_is_answered_with_placeholders(bench: Bench) -> None:
    bench.gemini.scripts = [[ended("MISSING_THOUGHT_SIGNATURE")], GOOD]

    await obtain(bench, make_order(without_signatures=lambda: PLAIN))

    assert bench.gemini.bodies[1]["contents"] == PLAIN["contents"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        [gemini(promptFeedback={"blockReason": "SAFETY"}, usageMetadata=counts(0))],
        [ended("MAX_TOKENS")],
        [ended("SAFETY")],
        [text_chunk("x", output=4, finish="STOP"), text_chunk("y", output=5, finish="STOP")],
    ],
)
async def test_what_can_be_told_is_asked_for_once(
    bench: Bench, answer: Items, *, streamed: bool
) -> None:
    bench.gemini.scripts = [answer]

    await obtain(bench, make_order(streamed=streamed))

    assert len(bench.gemini.bodies) == 1
    assert len(charges(bench)) == 1


async def test_repetitions_are_counted_by_their_reason(bench: Bench) -> None:
    bench.gemini.scripts = [[INTERNAL], GOOD, BROKEN, GOOD]

    await obtain(bench, make_order(completion_id="chatcmpl-1"))
    await obtain(bench, make_order(completion_id="chatcmpl-2"))

    repeats = bench.metrics.readings().by_label("gateway_upstream_repeats_total", "why")
    assert repeats == {"refused": 1, "unusable": 1}


async def test_the_holds_of_a_repetition_have_keys_of_their_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt may have needed several tries for its hold."""
    monkeypatch.setattr(authoriser, "HOLD_WAITS_SECONDS", (0.0, 0.0, 0.0))
    asked: list[str] = []
    hold = bench.billing.hold

    async def watched(request: HoldRequest) -> Hold:
        asked.append(request.key)
        if len(asked) == 4:  # credit comes back while the third of the thin tries waits
            bench.billing.available_nanos += bench.billing.holds.pop("other")
        return await hold(request)

    monkeypatch.setattr(bench.billing, "hold", watched)
    bench.billing.available_nanos = 100_000
    bench.billing.holds["other"] = 5 * USD
    bench.gemini.scripts = [BROKEN]

    completion = await bench.relay().open(make_order())
    await completion.settle()

    assert len(asked) == len(set(asked)) == 5
