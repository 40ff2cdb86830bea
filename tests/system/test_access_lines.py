"""Each request is one line that tells what it was, what it cost, how long it took, how it ended."""

import secrets
from decimal import Decimal
from typing import Any

import openai
import pytest

from support.stack import MODEL, Stack, price_usd, say

EVERY_REQUEST = {
    "event",
    "level",
    "logger",
    "timestamp",
    "service",
    "method",
    "path",
    "status",
    "duration_ms",
    "client",
    "principal",
    "request_id",
}
BILLED = {
    "model",
    "completion_id",
    "streamed",
    "ended",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "charge_status",
    "hold_id",
    "transaction_id",
    "upstream_ms",
}


def _ask(stack: Stack, account: str, text: str, **options: Any) -> tuple[str, Any]:
    """Ask, and return the request's id with the answer."""
    request_id = f"line-{secrets.token_hex(8)}"
    answer = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(text),
        user=account,
        extra_headers={"x-request-id": request_id},
        **options,
    )
    return request_id, answer


def _line(stack: Stack, request_id: str) -> dict[str, Any]:
    """Return the one line of a request, once it is written."""
    stack.proxy.wait_for_event(event="request", request_id=request_id)
    (line,) = [
        event
        for event in stack.proxy.events()
        if event["event"] == "request" and event.get("request_id") == request_id
    ]
    return line


def test_the_line_of_a_whole_answer_tells_its_tokens_and_its_exact_cost(stack: Stack) -> None:
    account = stack.account("1")

    request_id, answer = _ask(stack, account, "[[sim tokens=12]]")

    line = _line(stack, request_id)
    (charge,) = stack.transactions(account)
    assert set(line) == EVERY_REQUEST | BILLED
    assert (line["model"], line["streamed"], line["ended"]) == (MODEL, False, "complete")
    assert line["completion_id"] == answer.id
    assert line["prompt_tokens"] == answer.usage.prompt_tokens
    assert line["completion_tokens"] == answer.usage.completion_tokens
    assert Decimal(line["cost_usd"]) == price_usd(answer.usage) == -Decimal(charge["amount"])
    assert (line["charge_status"], line["transaction_id"]) == ("charged", charge["transaction_id"])
    assert line["hold_id"] == charge["hold_id"]
    assert 0 < line["upstream_ms"] <= line["duration_ms"]


def test_the_line_of_a_stream_comes_when_it_ends_and_tells_of_its_first_token(
    stack: Stack,
) -> None:
    account, gate = stack.account("1"), f"line-{secrets.token_hex(4)}"

    request_id, stream = _ask(stack, account, f"[[sim tokens=9 gate={gate}]]", stream=True)
    stack.release(gate, 1)
    next(iter(stream))
    during = [event for event in stack.proxy.events() if event.get("request_id") == request_id]
    stack.open_gate(gate)
    assert list(stream)

    line = _line(stack, request_id)
    assert not [event for event in during if event["event"] == "request"]
    assert set(line) == EVERY_REQUEST | BILLED | {"time_to_first_token_ms"}
    assert (line["streamed"], line["ended"]) == (True, "complete")
    assert 0 < line["time_to_first_token_ms"] <= line["duration_ms"]


def test_a_client_that_left_has_one_line_with_what_its_answer_has_cost(stack: Stack) -> None:
    account, gate = stack.account("1"), f"line-{secrets.token_hex(4)}"

    request_id, stream = _ask(stack, account, f"[[sim tokens=9 gate={gate}]]", stream=True)
    stack.release(gate, 1)
    next(iter(stream))
    stream.close()
    stack.proxy.wait_for_event(event="client_left", request_id=request_id)
    stack.open_gate(gate)

    line = _line(stack, request_id)
    (charge,) = stack.transactions(account)
    assert (line["ended"], line["charge_status"]) == ("client_left", "charged")
    assert Decimal(line["cost_usd"]) == -Decimal(charge["amount"])
    assert line["completion_tokens"] >= 9


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[sim error=overloaded]]", {"upstream_error": "unavailable", "status": 503}),
        ("[[sim error=quota_day]]", {"upstream_error": "resource_exhausted", "status": 429}),
    ],
)
def test_an_answer_that_gemini_refused_says_so(
    stack: Stack, text: str, told: dict[str, Any]
) -> None:
    request_id = f"line-{secrets.token_hex(8)}"
    with pytest.raises(openai.APIStatusError):
        stack.openai().chat.completions.create(
            model=MODEL,
            messages=say(text),
            user=stack.account("1"),
            extra_headers={"x-request-id": request_id},
        )

    line = _line(stack, request_id)
    assert line["ended"] == "upstream_error"
    assert told.items() <= line.items()
    assert "cost_usd" not in line


def test_an_answer_that_broke_off_says_so_with_what_was_charged(stack: Stack) -> None:
    account = stack.account("1")

    request_id, stream = _ask(stack, account, "[[sim tokens=20 error_after=5]]", stream=True)
    with pytest.raises(openai.APIError):
        list(stream)

    line = _line(stack, request_id)
    assert (line["status"], line["ended"]) == (200, "upstream_error")
    assert line["upstream_error"] == "unavailable"
    assert line["charge_status"] == "charged"
    assert Decimal(line["cost_usd"]) > 0


def test_an_account_that_can_not_pay_has_a_line_without_a_cost(stack: Stack) -> None:
    request_id = f"line-{secrets.token_hex(8)}"
    with pytest.raises(openai.APIStatusError):
        stack.openai().chat.completions.create(
            model=MODEL,
            messages=say("hi"),
            user=stack.account(),
            extra_headers={"x-request-id": request_id},
        )

    line = _line(stack, request_id)
    assert (line["status"], line["model"]) == (402, MODEL)
    assert not {"cost_usd", "ended"} & set(line)


def test_a_repeat_under_a_key_is_a_line_of_its_own_and_costs_nothing(stack: Stack) -> None:
    account, key = stack.account("1"), secrets.token_hex(8)
    ids = [f"line-{secrets.token_hex(8)}" for _ in range(2)]
    for request_id in ids:
        stack.openai().chat.completions.create(
            model=MODEL,
            messages=say("[[sim tokens=4]]"),
            user=account,
            extra_headers={"x-request-id": request_id, "idempotency-key": key},
        )

    first, repeat = (_line(stack, request_id) for request_id in ids)
    assert (first["replayed"], repeat["replayed"]) == (False, True)
    assert Decimal(first["cost_usd"]) > 0
    assert "cost_usd" not in repeat
