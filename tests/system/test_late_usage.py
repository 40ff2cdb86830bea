"""Usage that Gemini reports late: what it may cost an operator, and never costs an account."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from support.cut_off import (
    assert_used_up,
    billing_figures,
    cost_usd,
    credit_for,
    open_stream,
    read,
    spend_elsewhere,
    upstream_of,
)
from support.stack import MODEL, OUTPUT_USD, Stack, running_stack, say

BURST_TOKENS = 10_000
# Twenty chunks of 500 tokens: nineteen without a word on usage, and then a report.
LATE = "chunk=500 usage=20 thoughts=0"
SEARCH: dict[str, Any] = {"google": {"tools": [{"google_search": {}}]}}
SEARCH_USD = Decimal("0.035")
TOOL_TOKENS = 200_000
TOOL_USD = TOOL_TOKENS * Decimal("0.0000003")


@pytest.fixture(scope="module")
def strict_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system with the policy that always holds the worst case."""
    folder = tmp_path_factory.mktemp("strict")
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, url, {"HOLD_POLICY": "strict"}) as stack:
        yield stack


def test_what_was_reported_too_late_is_a_shortfall_on_record(stack: Stack) -> None:
    """The answer stands in its first burst while the account spends its credit elsewhere."""
    account = stack.account(credit_for(12_000))
    stack.release(account, 500)
    stream = open_stream(stack, account, f"[[sim tokens=30000 {LATE} gate={account}]]")
    stack.wait_at_gate(account)
    spend_elsewhere(stack, account, 6_000)
    before = billing_figures(stack)["shortfall_usd"]

    stack.release(account, BURST_TOKENS)
    seen = read(stream)

    charge, elsewhere = stack.transactions(account)
    assert seen.finishes == {0: "length"}
    assert seen.error is not None
    assert seen.error.code == "insufficient_quota"
    assert seen.usage.completion_tokens == BURST_TOKENS
    left = 12_000 * OUTPUT_USD + Decimal(elsewhere["amount"])
    assert -Decimal(charge["amount"]) == left
    shortfall = Decimal(charge["shortfall"])
    assert shortfall == cost_usd(charge) - left > 0
    assert billing_figures(stack)["shortfall_usd"] - before == shortfall
    assert upstream_of(stack, account)["state"] == "disconnected"
    assert_used_up(stack, account)


def test_what_is_reported_late_but_can_be_paid_is_charged_in_full(stack: Stack) -> None:
    """Each burst is more than twice the window."""
    account = stack.account("1")

    seen = read(open_stream(stack, account, f"[[sim tokens=30000 {LATE}]] {account}"))

    (charge,) = stack.transactions(account)
    assert (seen.error, seen.finishes) == (None, {0: "stop"})
    assert charge["usage"]["candidates_tokens"] == 30_000
    assert -Decimal(charge["amount"]) == cost_usd(charge)
    assert Decimal(charge["shortfall"]) == 0
    assert stack.balance(account)["held"] == 0


def test_with_the_worst_case_held_late_usage_is_no_shortfall(strict_stack: Stack) -> None:
    """What is held can't be spent elsewhere, and Gemini stops where the hold ends."""
    stack = strict_stack
    account = stack.account(credit_for(12_000))
    stack.release(account, 500)
    stream = open_stream(stack, account, f"[[sim tokens=30000 {LATE} gate={account}]]")
    stack.wait_at_gate(account)
    with pytest.raises(openai.APIStatusError) as caught:
        spend_elsewhere(stack, account, 6_000)
    assert caught.value.status_code == 402
    assert caught.value.response.headers["x-credits-waiting-helps"] == "true"

    stack.open_gate(account)
    seen = read(stream)

    (charge,) = stack.transactions(account)
    assert seen.finishes == {0: "length"}
    assert seen.error is not None
    assert seen.error.code == "insufficient_quota"
    assert 11_900 < seen.usage.completion_tokens < 12_000
    assert -Decimal(charge["amount"]) == cost_usd(charge)
    assert Decimal(charge["shortfall"]) == 0
    assert billing_figures(stack)["shortfall_usd"] == 0
    assert stack.balance(account)["held"] == 0
    stack.assert_ledger_is_sound()


def searching(account: str, *, tokens: int, after: int, more: str = "") -> str:
    """Order an answer whose search brings input once so many tokens have come."""
    tool = f"tool_prompt={TOOL_TOKENS} searches=1 tools_after={after}"
    return f"[[sim tokens={tokens} chunk=100 thoughts=0 {tool} {more}]] {account}"


def test_input_that_a_search_brings_is_paid_as_far_as_there_is_credit(stack: Stack) -> None:
    """The account could pay for the search and all of the text, but not for what was found."""
    credit = SEARCH_USD + 8_000 * OUTPUT_USD
    account = stack.account(format(credit, "f"))
    before = billing_figures(stack)["shortfall_usd"]
    # It stands still there: what cuts it off is not its end.
    text = searching(account, tokens=4_000, after=1_000, more=f"stall_after=1200 gate={account}")

    seen = read(open_stream(stack, account, text, extra_body=SEARCH))

    assert upstream_of(stack, account)["state"] == "disconnected"
    (charge,) = stack.transactions(account)
    assert seen.finishes == {0: "length"}
    assert seen.error is not None
    assert seen.error.code == "insufficient_quota"
    assert seen.usage.prompt_tokens > TOOL_TOKENS
    assert charge["usage"]["tool_prompt_tokens"] == TOOL_TOKENS
    assert -Decimal(charge["amount"]) == credit
    shortfall = Decimal(charge["shortfall"])
    assert shortfall == cost_usd(charge) + SEARCH_USD - credit > 0
    assert billing_figures(stack)["shortfall_usd"] - before == shortfall
    assert_used_up(stack, account)


def test_the_hold_follows_what_a_search_brings(stack: Stack) -> None:
    """The rest of the account's credit can't be promised to anybody else meanwhile."""
    account = stack.account("1")
    stream = open_stream(
        stack,
        account,
        searching(account, tokens=4_000, after=1_000, more=f"stall_after=1200 gate={account}"),
        extra_body=SEARCH,
    )
    request_id = stream.response.headers["x-request-id"]
    stack.ledger.wait_for_event(method="PATCH", status=200, request_id=request_id)

    held = stack.balance(account)["held"]
    stack.open_gate(account)
    seen = read(stream)

    assert held > SEARCH_USD + TOOL_USD
    (charge,) = stack.transactions(account)
    assert (seen.error, seen.finishes) == (None, {0: "stop"})
    assert -Decimal(charge["amount"]) == cost_usd(charge) + SEARCH_USD
    assert Decimal(charge["shortfall"]) == 0
    assert stack.balance(account)["held"] == 0


def test_a_search_told_only_at_the_end_is_charged_all_the_same(stack: Stack) -> None:
    account = stack.account(format(SEARCH_USD + TOOL_USD + 5_000 * OUTPUT_USD, "f"))

    answer = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(searching(account, tokens=2_000, after=1_000_000)),
        user=account,
        extra_body=SEARCH,
    )

    assert answer.choices[0].finish_reason == "stop"
    (charge,) = stack.transactions(account)
    assert -Decimal(charge["amount"]) == cost_usd(charge) + SEARCH_USD
    assert Decimal(charge["shortfall"]) == 0
    assert stack.balance(account)["held"] == 0
    stack.assert_ledger_is_sound()
