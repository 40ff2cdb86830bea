"""`POST /v1/quote`: it costs nothing, and says what a completion then does."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from support.stack import ADMIN_KEY, CLIENT_KEY, INPUT_USD, MODEL, OUTPUT_USD, Stack

Json = dict[str, Any]
WORDS = "[[sim tokens=5 thoughts=0]] Please say hello to everybody in the room. "


def asked(account: str, **fields: Any) -> Json:
    """Return a chat request of some words."""
    messages = [{"role": "user", "content": WORDS}]
    return {"model": MODEL, "messages": messages, "user": account, "max_tokens": 1_000, **fields}


def post(stack: Stack, path: str, body: Json) -> httpx.Response:
    return stack.http(stack.proxy.url, CLIENT_KEY).post(path, json=body)


def quoted(stack: Stack, body: Json, query: str = "") -> Json:
    answer = post(stack, f"/v1/quote{query}", body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def methods_called(stack: Stack) -> list[str]:
    """Return which of Gemini's methods were called since it was last forgotten."""
    return [request["path"].rpartition(":")[2] for request in stack.wait_for_upstream()]


def test_a_quote_has_the_costs_line_by_line_and_asks_nobody(stack: Stack) -> None:
    account = stack.account("5")
    stack.forget_upstream()

    quote = quoted(stack, asked(account))

    bound = quote["prompt_tokens"]["bound"]
    assert bound > len(WORDS)
    prompt_usd = bound * INPUT_USD
    assert quote == {
        "object": "quote",
        "model": MODEL,
        "service_tier": "standard",
        "currency": "USD",
        "catalog_version": "2026-11-24",
        "prompt_tokens": {"bound": bound, "exact": None},
        "max_output_tokens": 1_000,
        "affordable_max_output_tokens": 1_000,
        "min_cost": text(prompt_usd + OUTPUT_USD),
        "max_cost": text(prompt_usd + Decimal("0.0025")),
        "line_items": [
            {
                "kind": "input",
                "quantity": bound,
                "unit": "token",
                "unit_price_usd": "0.0000003",
                "cost_usd": text(prompt_usd),
            },
            {
                "kind": "output",
                "quantity": 1_000,
                "unit": "token",
                "unit_price_usd": "0.0000025",
                "cost_usd": "0.0025",
            },
        ],
        "account": {"available": "5", "spendable": "5", "limited_by": None},
        "allowed": True,
        "reason": None,
    }
    assert methods_called(stack) == []
    assert stack.balance(account) == {"balance": 5, "held": 0, "available": 5}


def text(usd: Decimal) -> str:
    return format(usd.normalize(), "f")


def test_a_charge_is_within_what_was_quoted(stack: Stack) -> None:
    """Counted exactly, the shortest answer is quoted to the last digit."""
    account = stack.account("5")
    body = asked(account, max_tokens=1)

    quote = quoted(stack, body, "?count=true")
    answer = post(stack, "/v1/chat/completions", body)

    assert quote["prompt_tokens"]["exact"] == answer.json()["usage"]["prompt_tokens"]
    assert quote["min_cost"] == answer.headers["x-credits-charged"] == quote["max_cost"]


def test_a_thin_account_has_its_prompt_counted_and_knows_how_far_it_gets(stack: Stack) -> None:
    account = stack.account("0.001")
    stack.forget_upstream()

    quote = quoted(stack, asked(account))

    assert methods_called(stack) == ["countTokens"]
    exact = quote["prompt_tokens"]["exact"]
    affordable = int((Decimal("0.001") - exact * INPUT_USD) / OUTPUT_USD)
    assert exact < quote["prompt_tokens"]["bound"]
    assert (quote["allowed"], quote["reason"]) == (True, None)
    assert quote["affordable_max_output_tokens"] == affordable < quote["max_output_tokens"]
    answer = post(stack, "/v1/chat/completions", asked(account))
    assert answer.headers["x-credits-max-output-tokens"] == str(affordable)


def test_where_a_completion_would_be_refused_a_quote_says_so(stack: Stack) -> None:
    """Enough for a token, but not for an answer that is of use."""
    account = stack.account("0.0001")

    quote = quoted(stack, asked(account))
    answer = post(stack, "/v1/chat/completions", asked(account))

    assert answer.status_code == 402
    assert quote["allowed"] is False
    assert quote["reason"]["code"] == answer.json()["error"]["code"] == "insufficient_quota"
    assert quote["account"] == {"available": "0.0001", "spendable": "0.0001", "limited_by": None}


@pytest.mark.parametrize("name", ["nobody/ä?#", "../keys", "a%2Fb"])
def test_an_account_that_nobody_has_topped_up_has_nothing(stack: Stack, name: str) -> None:
    stack.forget_upstream()

    quote = quoted(stack, asked(name))

    assert quote["account"] == {"available": "0", "spendable": "0", "limited_by": None}
    assert quote["reason"]["code"] == "insufficient_quota"
    assert quote["affordable_max_output_tokens"] == 0
    assert methods_called(stack) == [], "counting would be for nothing"


@pytest.mark.parametrize("status", ["frozen", "closed"])
def test_an_account_that_may_not_be_used_is_refused_as_a_completion_is(
    stack: Stack, status: str
) -> None:
    account = stack.account("5" if status == "frozen" else None)
    if status == "closed":
        account = emptied_account(stack)
    change(stack, account, {"status": status})
    stack.forget_upstream()

    quote = quoted(stack, asked(account))
    answer = post(stack, "/v1/chat/completions", asked(account))

    assert answer.status_code == 403
    assert quote["allowed"] is False
    assert quote["reason"]["code"] == answer.json()["error"]["code"] == f"account_{status}"
    assert methods_called(stack) == []


def test_a_spend_limit_counts_as_the_credit_that_there_is(stack: Stack) -> None:
    account = stack.account("5")
    change(stack, account, {"limits": {"day": "0.0001"}})

    quote = quoted(stack, asked(account))

    assert quote["account"] == {"available": "5", "spendable": "0.0001", "limited_by": "day"}
    assert quote["reason"]["code"] == "insufficient_quota"


def change(stack: Stack, account: str, body: Json) -> None:
    answer = stack.http(stack.ledger.url, ADMIN_KEY).patch(
        f"/api/v1/accounts/{account}",
        json=body,
        headers={"idempotency-key": f"change-{account}-{sorted(body)}"},
    )
    assert answer.status_code == 200, answer.text


def emptied_account(stack: Stack) -> str:
    """Return an account that has nothing left: only such a one can be closed."""
    account = stack.account("1")
    answer = stack.http(stack.ledger.url, ADMIN_KEY).post(
        "/api/v1/bill",
        json={"user_id": account, "amount": "1", "description": "all of it"},
        headers={"idempotency-key": f"empty-{account}"},
    )
    assert answer.status_code == 200, answer.text
    return account


def test_several_answers_and_searching_are_in_the_quote(stack: Stack) -> None:
    """2.5 Flash is charged 0.035 USD for a prompt that searches."""
    account = stack.account("5")

    quote = quoted(stack, asked(account, n=3, web_search_options={}))

    assert quote["max_output_tokens"] == 3_000
    assert quote["line_items"][2] == {
        "kind": "search",
        "quantity": 1,
        "unit": "prompt",
        "unit_price_usd": "0.035",
        "cost_usd": "0.035",
    }
    lines = sum(Decimal(item["cost_usd"]) for item in quote["line_items"])
    assert Decimal(quote["max_cost"]) == lines
    assert Decimal(quote["min_cost"]) < Decimal("0.035")


def test_a_service_tier_is_quoted_at_its_own_price(stack: Stack) -> None:
    quote = quoted(stack, asked(stack.account("5"), service_tier="flex"))

    assert quote["service_tier"] == "flex"
    assert [item["unit_price_usd"] for item in quote["line_items"]] == ["0.00000015", "0.00000125"]


def test_a_quote_names_what_has_no_effect(stack: Stack) -> None:
    answer = post(stack, "/quote", asked(stack.account("5"), frequency_penalty=1, fancy=True))

    assert answer.status_code == 200
    assert answer.headers["x-proxy-ignored-params"] == "frequency_penalty, fancy"


@pytest.mark.parametrize(
    ("fields", "query", "param"),
    [
        ({"model": "gpt-9"}, "", "model"),
        ({"messages": None}, "", "messages"),
        ({"n": 9}, "", "n"),
        ({"service_tier": "gold"}, "", "service_tier"),
        ({"modalities": ["audio"]}, "", "modalities"),
        ({"user": ".."}, "", "user"),
        ({}, "?count=perhaps", "count"),
    ],
)
def test_what_cant_be_quoted_is_refused_by_its_name(
    stack: Stack, fields: Json, query: str, param: str
) -> None:
    answer = post(stack, f"/v1/quote{query}", {**asked("nobody"), **fields})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_quote_needs_a_key(stack: Stack) -> None:
    answer = stack.http(stack.proxy.url, None).post("/v1/quote", json=asked("nobody"))

    assert answer.status_code == 401


def test_a_count_that_gemini_refuses_is_an_error_as_anywhere(stack: Stack) -> None:
    stack.http(stack.simulator.url, None).post(
        "/control/faults", json={"error": "overloaded", "method": "countTokens", "times": 5}
    ).raise_for_status()
    try:
        answer = post(stack, "/v1/quote?count=true", asked(stack.account("5")))
    finally:
        stack.http(stack.simulator.url, None).delete("/control/faults")

    assert answer.status_code == 503
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_openapi_document_has_the_form_of_a_quote(stack: Stack) -> None:
    document = stack.http(stack.proxy.url, None).get("/openapi.json").json()

    quote = document["components"]["schemas"]["QuoteBody"]
    answers = document["paths"]["/v1/quote"]["post"]["responses"]
    assert set(quote["required"]) | {"object"} == set(quoted(stack, asked("nobody")))
    assert "402" not in answers
    assert answers["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/QuoteBody")
