"""Nothing is served beyond what can be paid, and every charge is exact, on both ledgers."""

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk as Chunk

from support.stack import CLIENT_KEY, MODEL, OUTPUT_USD, Stack, price_usd, running_stack, say

REQUESTS = 200
PAYABLE = 50


@pytest.fixture
def ledger_stack(tmp_path: Path, ledger_url: str) -> Iterator[Stack]:
    """A system of its own on each ledger engine."""
    with running_stack(tmp_path, ledger_url) as stack:
        yield stack


def read_to_the_error(
    stream: Any, chunks: list[Chunk], after_each: Callable[[], object] = lambda: None
) -> openai.APIError:
    """Read a stream that ends with an error; add what comes before it to a list."""
    try:
        for chunk in stream:
            chunks.append(chunk)
            after_each()
    except openai.APIError as error:
        return error
    raise AssertionError("the stream ended without an error")


async def complete(client: openai.AsyncOpenAI, account: str, *, streamed: bool) -> int:
    """Complete once and return the status that was answered."""
    ask: dict[str, Any] = {
        "model": MODEL,
        "messages": say("[[sim tokens=30 thoughts=0]] go"),
        "max_tokens": 20,
        "user": account,
    }
    try:
        if streamed:
            stream = await client.chat.completions.create(stream=True, **ask)
            finishes = [chunk.choices[0].finish_reason async for chunk in stream]
            assert finishes[-1] == "length"
        else:
            await client.chat.completions.create(**ask)
    except openai.APIStatusError as error:
        return error.status_code
    except openai.APIError as error:
        # A hold that takes ten seconds on a busy machine is refused inside the stream.
        if error.code != "insufficient_quota":
            raise
        return 402
    return 200


async def test_of_200_requests_at_once_exactly_what_can_be_paid_is_served(
    ledger_stack: Stack,
) -> None:
    """Each costs the same, the account can pay for fifty of them, to the last nano-USD."""
    stack = ledger_stack
    probe = stack.account("1")
    async with openai.AsyncOpenAI(
        api_key=CLIENT_KEY,
        base_url=f"{stack.proxy.url}/v1",
        max_retries=0,
        timeout=120,
    ) as client:
        assert await complete(client, probe, streamed=True) == 200
        cost = 1 - stack.balance(probe)["balance"]
        account = stack.account(format(cost * PAYABLE, "f"))

        statuses = await asyncio.gather(
            *(complete(client, account, streamed=index % 2 == 0) for index in range(REQUESTS))
        )

    assert sorted(statuses) == [200] * PAYABLE + [402] * (REQUESTS - PAYABLE)
    assert stack.balance(account) == {name: Decimal(0) for name in ("balance", "held", "available")}
    charges = stack.transactions(account)
    assert len(charges) == PAYABLE
    assert {Decimal(charge["amount"]) for charge in charges} == {-cost}
    assert all(
        Decimal(charge["balance_after"]) >= Decimal(charge["held_after"]) for charge in charges
    )
    stack.assert_ledger_is_sound()


def test_a_cut_off_stream_shows_the_text_the_reason_the_usage_and_the_error(stack: Stack) -> None:
    account = stack.account(format(6_500 * OUTPUT_USD, "f"))
    gate = f"cut-{account}"
    chunks: list[Chunk] = []
    stack.release(gate, 50)
    stream = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"[[sim tokens=20000 chunk=50 thoughts=0 gate={gate}]]"),
        user=account,
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="none",
    )
    stack.wait_at_gate(gate)
    spent_elsewhere = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say("[[sim tokens=2000 thoughts=0]]"),
        max_tokens=2_000,
        user=account,
    )

    # One chunk at a time, as Gemini paces them: what arrives at once is cut off at once.
    error = read_to_the_error(stream, chunks, lambda: stack.release(gate, 50))

    assert error.code == "insufficient_quota"
    assert chunks[-2].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert 4_000 <= usage.completion_tokens < 5_000
    left = 6_500 * OUTPUT_USD - price_usd(spent_elsewhere.usage)
    charge = stack.transactions(account)[0]
    assert -Decimal(charge["amount"]) == min(left, price_usd(usage))
    # What the simulator produced at once, beyond the hold, is on record for the operator.
    assert Decimal(charge["shortfall"]) == max(Decimal(0), price_usd(usage) - left)
    assert stack.balance(account)["balance"] >= 0
    assert stack.balance(account)["held"] == 0
    stack.assert_ledger_is_sound()


def test_a_short_balance_lowers_the_limit_and_says_so(stack: Stack) -> None:
    account = stack.account(format(300 * OUTPUT_USD, "f"))

    answer = stack.openai().chat.completions.with_raw_response.create(
        model=MODEL, messages=say("[[sim tokens=5000]]"), user=account
    )

    limit = int(answer.headers["x-credits-max-output-tokens"])
    assert 250 <= limit < 300
    completion = answer.parse()
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == limit
    assert stack.balance(account)["balance"] >= 0


@pytest.mark.parametrize("read", [0, 1, 7])
def test_a_client_that_leaves_pays_for_the_whole_answer(any_stack: Stack, read: int) -> None:
    """Google goes on and charges when a client leaves; so does the proxy, exactly."""
    account = any_stack.account("1")
    gate = f"left-{account}"
    any_stack.forget_upstream()
    any_stack.release(gate, 10)
    stream = any_stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"[[sim tokens=40 thoughts=0 gate={gate}]]"),
        user=account,
        stream=True,
        extra_headers={"x-request-id": account},
    )
    for _ in range(read):
        next(stream)
    stream.close()
    any_stack.open_gate(gate)

    any_stack.ledger.wait_for_event(path="/api/v1/bill", request_id=account)
    (request,) = any_stack.wait_for_upstream(count="1", ended="true")

    assert request["state"] == "completed"
    (charge,) = any_stack.transactions(account)
    assert charge["usage"]["candidates_tokens"] == 40
    assert "estimated" not in charge["metadata"]
    assert any_stack.balance(account)["held"] == 0


@pytest.mark.parametrize(
    ("directive", "status"),
    [
        ("status=503", 503),
        ("status=500", 500),
        ("status=429", 429),
        ("status=403", 502),
        ("hang_up", 502),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failure_of_gemini_costs_nothing(
    any_stack: Stack, directive: str, status: int, *, streamed: bool
) -> None:
    account = any_stack.account("1")

    with pytest.raises(openai.APIStatusError) as caught:
        any_stack.openai().chat.completions.create(
            model=MODEL, messages=say(f"[[sim {directive}]] x"), user=account, stream=streamed
        )

    assert caught.value.status_code == status
    assert "127.0.0.1" not in caught.value.response.text
    assert any_stack.balance(account) == {
        "balance": Decimal(1),
        "held": Decimal(0),
        "available": Decimal(1),
    }


@pytest.mark.parametrize(
    "directive", ["cut_after=3", "error_after=3", "error_after=3 error_form=data", "finish=none"]
)
def test_a_stream_that_breaks_off_ends_with_an_error_and_is_charged_as_reported(
    stack: Stack, directive: str
) -> None:
    account = stack.account("1")
    chunks: list[Chunk] = []
    stream = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"[[sim tokens=6 thoughts=0 {directive}]]"),
        user=account,
        stream=True,
    )

    read_to_the_error(stream, chunks)

    produced = len([chunk for chunk in chunks if chunk.choices[0].delta.content])
    assert produced == (6 if directive == "finish=none" else 3)
    (charge,) = stack.transactions(account)
    assert charge["usage"]["candidates_tokens"] == produced
    assert stack.balance(account)["held"] == 0


def test_a_blocked_prompt_is_a_refusal_that_costs_what_google_reports(stack: Stack) -> None:
    account = stack.account("1")

    answer = stack.openai().chat.completions.create(
        model=MODEL, messages=say("[[sim block=SAFETY]] x"), user=account
    )

    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", None)
    assert choice.message.refusal == "Blocked: SAFETY"
    assert answer.usage is not None
    assert stack.balance(account)["balance"] == 1 - price_usd(answer.usage)


def test_an_empty_answer_is_an_error_and_costs_what_google_reports(stack: Stack) -> None:
    account = stack.account("1")

    with pytest.raises(openai.InternalServerError) as caught:
        stack.openai().chat.completions.create(
            model=MODEL, messages=say("[[sim no_candidates]] x"), user=account
        )

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
    # It was asked for once more, and Google charges for both.
    charges = stack.transactions(account)
    assert [charge["metadata"].get("attempt", 1) for charge in charges] == [2, 1]
    assert all("candidates_tokens" not in charge["usage"] for charge in charges)
    assert stack.balance(account)["held"] == 0
