"""The credit ends in mid-answer: what each kind of client sees, and when Gemini is stopped.

In each test something else on the account spends what the answer could count on when it began,
while the simulator holds it at a gate. It lets through more than is left, and less than would
end the answer: a stream that is not stopped would stand there for ever.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from clients.environments import NODE, install_node_packages, node_problem
from clients.gateway import function
from support.cut_off import (
    Seen,
    assert_used_up,
    billing_figures,
    cost_usd,
    credit_for,
    open_stream,
    read,
    spend_elsewhere,
    upstream_of,
)
from support.stack import CLIENT_KEY, MODEL, OUTPUT_USD, Stack, say

CREDIT_TOKENS = 6_500
ELSEWHERE_TOKENS = 2_000
# One chunk before the account spends elsewhere, and then more than it has left.
FIRST_TOKENS = 50
REST_TOKENS = 5_500
ORDER = f"chunk={FIRST_TOKENS} thoughts=0"


def in_mid_answer(stack: Stack, account: str, ask: Callable[[], Any]) -> Any:
    """Ask, spend elsewhere once the answer stands at the account's gate, and let it run on."""
    stack.forget_upstream()
    stack.release(account, FIRST_TOKENS)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            stack.wait_at_gate(account)
            spend_elsewhere(stack, account, ELSEWHERE_TOKENS)
            stack.release(account, REST_TOKENS)
            return asking.result(timeout=60)
        finally:
            stack.open_gate(account)


def stream_in_mid_answer(stack: Stack, account: str, order: str, **options: Any) -> Seen:
    """Do so with a stream of the official client; return what it saw."""
    text = f"[[sim tokens=20000 {order} gate={account}]]"
    seen: Seen = in_mid_answer(
        stack, account, lambda: read(open_stream(stack, account, text, **options))
    )
    return seen


def assert_stopped_and_charged(stack: Stack, account: str) -> dict[str, Any]:
    """Check that Gemini was stopped, and that the account paid what it had; return the charge."""
    assert upstream_of(stack, account)["state"] == "disconnected"
    charge, elsewhere = stack.transactions(account)
    left = CREDIT_TOKENS * OUTPUT_USD + Decimal(elsewhere["amount"])
    cost, charged = cost_usd(charge), -Decimal(charge["amount"])
    assert charged == min(left, cost)
    assert Decimal(charge["shortfall"]) == cost - charged
    assert charge["metadata"]["estimated"] is True
    if cost >= left:
        assert_used_up(stack, account)
    assert stack.balance(account)["held"] == 0
    return charge


def assert_ends_for_lack_of_credit(seen: Seen, choices: int = 1) -> None:
    """Check the ending: each choice's reason, then the usage, then the error, and no more."""
    assert seen.finishes == dict.fromkeys(range(choices), "length")
    assert seen.chunks[-1].choices == []
    assert seen.usage.total_tokens > 0
    assert [chunk.usage for chunk in seen.chunks[:-1]] == [None] * (len(seen.chunks) - 1)
    assert seen.error is not None
    assert (seen.error.code, seen.error.type) == ("insufficient_quota", "insufficient_quota")
    # It came within the stream: there is no status that a client could retry on.
    assert not hasattr(seen.error, "status_code")
    assert "top up" in seen.error.message


def test_a_stream_shows_the_text_so_far_the_reason_the_usage_and_the_error(stack: Stack) -> None:
    account = stack.account(credit_for(CREDIT_TOKENS))

    seen = stream_in_mid_answer(stack, account, ORDER)

    assert_ends_for_lack_of_credit(seen)
    charge = assert_stopped_and_charged(stack, account)
    assert charge["usage"]["candidates_tokens"] == seen.usage.completion_tokens
    # No more text than is accounted for, and no less.
    assert len(seen.text.split()) > 0.5 * seen.usage.completion_tokens


def test_all_of_several_choices_end_for_lack_of_credit(stack: Stack) -> None:
    account = stack.account(credit_for(CREDIT_TOKENS))

    seen = stream_in_mid_answer(stack, account, ORDER, n=2)

    assert_ends_for_lack_of_credit(seen, choices=2)
    assert_stopped_and_charged(stack, account)


def test_thinking_is_cut_off_before_there_is_a_word(stack: Stack) -> None:
    """The client sees an answer without text; what was thought is in the usage, and is paid."""
    account = stack.account(credit_for(CREDIT_TOKENS))

    seen = stream_in_mid_answer(stack, account, f"thoughts=20000 thought_chunk={FIRST_TOKENS}")

    assert_ends_for_lack_of_credit(seen)
    assert seen.text == ""
    details = seen.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens == seen.usage.completion_tokens > 0
    assert_stopped_and_charged(stack, account)


def test_calls_that_have_come_are_whole_and_the_reason_tells_that_there_were_more(
    stack: Stack,
) -> None:
    arguments = {"text": "word " * 2_000}
    names = [f"tell_{letter}" for letter in "abcdef"]
    quoted = json.dumps(json.dumps(arguments))
    account = stack.account("0.05")
    order = f"[[sim thoughts=0 call={','.join(names)} args={quoted} gate={account}]]"
    tools = [function(name, {"text": {"type": "string"}}) for name in names]

    def ask() -> Seen:
        return read(open_stream(stack, account, order, model="gemini-3-flash-preview", tools=tools))

    stack.release(account, 1)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        stack.wait_at_gate(account)
        spend_elsewhere(stack, account, 8_000)
        stack.release(account, len(names) - 2)
        seen = asking.result(timeout=60)

    assert_ends_for_lack_of_credit(seen)
    heard: dict[int, str] = {}
    for chunk in seen.chunks:
        for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            said = call.function.arguments if call.function is not None else None
            heard[call.index] = heard.get(call.index, "") + (said or "")
    assert 0 < len(heard) < len(names)
    assert [json.loads(said) for said in heard.values()] == [arguments] * len(heard)
    assert upstream_of(stack, account)["state"] == "disconnected"
    assert stack.balance(account)["balance"] >= 0
    assert stack.balance(account)["held"] == 0
    stack.assert_ledger_is_sound()


def test_a_whole_answer_is_what_was_paid_and_says_that_it_was_cut(stack: Stack) -> None:
    account = stack.account(credit_for(CREDIT_TOKENS))

    def ask() -> Any:
        return stack.openai().chat.completions.with_raw_response.create(
            model=MODEL, messages=say(f"[[sim tokens=20000 {ORDER} gate={account}]]"), user=account
        )

    answer = in_mid_answer(stack, account, ask)

    completion = answer.parse()
    assert completion.choices[0].finish_reason == "length"
    charge = assert_stopped_and_charged(stack, account)
    assert completion.usage.completion_tokens == charge["usage"]["candidates_tokens"]
    assert len(completion.choices[0].message.content.split()) > 2_000
    assert "x-credits-max-output-tokens" in answer.headers
    assert answer.headers["x-credits-exhausted"] == "true"
    assert Decimal(answer.headers["x-credits-charged"]) == -Decimal(charge["amount"])
    assert Decimal(answer.headers["x-credits-available"]) == stack.balance(account)["available"]


def test_a_whole_answer_that_was_only_thought_has_no_text(stack: Stack) -> None:
    account = stack.account(credit_for(CREDIT_TOKENS))
    order = f"thoughts=20000 thought_chunk={FIRST_TOKENS} gate={account}"

    def ask() -> Any:
        return stack.openai().chat.completions.create(
            model=MODEL, messages=say(f"[[sim {order}]]"), user=account
        )

    completion = in_mid_answer(stack, account, ask)

    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("length", "")
    charge = assert_stopped_and_charged(stack, account)
    assert completion.usage.completion_tokens == charge["usage"]["thoughts_tokens"] > 0


# The first client of a session installs its packages.
@pytest.mark.timeout(600)
def test_the_client_in_javascript_sees_the_same(stack: Stack) -> None:
    problem = node_problem()
    if problem is not None:
        pytest.skip(f"The client in JavaScript is not tried: {problem}")
    node = shutil.which("node")
    assert node is not None
    install_node_packages(lambda _line: None)
    account = stack.account(credit_for(CREDIT_TOKENS))
    env = {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": f"{stack.proxy.url}/v1",
        "OPENAI_API_KEY": CLIENT_KEY,
        "ACCOUNT": account,
        "TEXT": f"[[sim tokens=20000 {ORDER} gate={account}]]",
    }

    def ask() -> Any:
        done = subprocess.run(
            [node, str(NODE / "cut_off.mjs")], env=env, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    seen = in_mid_answer(stack, account, ask)

    assert seen["finishes"] == ["length"]
    assert seen["error"] == {
        "name": "Error",
        "status": None,
        "code": "insufficient_quota",
        "type": "insufficient_quota",
    }
    charge = assert_stopped_and_charged(stack, account)
    assert seen["usage"]["completion_tokens"] == charge["usage"]["candidates_tokens"]
    assert seen["words"] > 2_000


def test_a_hold_is_raised_three_times_in_ten_thousand_tokens(stack: Stack) -> None:
    """A balance of which the worst case is a large part: a window of 4,096 is held at a time."""
    account = stack.account("1")
    before = billing_figures(stack)["hold_raises"]

    seen = read(open_stream(stack, account, f"[[sim tokens=10000 pace=20000 {ORDER}]] {account}"))

    assert seen.usage.completion_tokens == 10_000
    assert billing_figures(stack)["hold_raises"] - before == 3
