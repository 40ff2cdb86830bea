"""The last credit of an account, used up by many requests at once, and every booking checked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_UP, Decimal
from typing import Any

from support.many_asks import CHUNK_TOKENS, Ask, Told, ask_all, price_of
from support.processes import ServiceProcess
from support.stack import INPUT_USD, OUTPUT_USD, SERVICE_KEY, Stack

PAYABLE_SHARE = Decimal("0.4")
SHARE_USED_LEAST = Decimal("0.99")
SHORTFALL_SHARE_MOST = Decimal("0.1")
NANO = Decimal("1e-9")


def journal(stack: Stack, account: str) -> list[dict[str, Any]]:
    """Return all that was booked, in its order."""
    kinds = ("topup", "charge")
    found = [item for kind in kinds for item in stack.transactions(account, kind)]
    return sorted(found, key=lambda item: int(item["seq"]))


def label_of(request: dict[str, Any]) -> str:
    """Return the label of a request that the simulator has recorded."""
    text: str = request["body"]["contents"][-1]["parts"][0]["text"]
    return text.rsplit(" ", 1)[1]


def assert_nothing_is_left_open(stack: Stack, account: str) -> None:
    """Check that no hold is active and the ledger is sound."""
    assert stack.balance(account)["held"] == 0
    holds = stack.http(stack.ledger.url, SERVICE_KEY).get(
        f"/api/v1/accounts/{account}/holds", params={"status": "active"}
    )
    assert holds.json()["holds"] == []
    stack.assert_ledger_is_sound()


def assert_never_overdrawn(booked: Sequence[dict[str, Any]]) -> None:
    """Check the whole journal: there is no gap in it, and available is never negative."""
    assert [item["seq"] for item in booked] == list(range(1, len(booked) + 1))
    for item in booked:
        assert Decimal(item["balance_after"]) >= Decimal(item["held_after"]) >= 0, item


def assert_reckoned_from_usage(
    charges: Sequence[dict[str, Any]], reported: dict[str, dict[str, Any]]
) -> None:
    """Check each charge against what the simulator reported for that very request."""
    for charge in charges:
        request = reported[charge["metadata"]["request_id"]]
        usage, last = charge["usage"], request["usage"]
        output_tokens = usage.get("candidates_tokens", 0)
        assert usage["prompt_tokens"] == last["promptTokenCount"]
        if "estimated" in charge["metadata"]:
            # Cut off: Gemini was stopped, and may have sent more than was read.
            sent_tokens = last["candidatesTokenCount"]
            assert output_tokens <= sent_tokens
            assert output_tokens % CHUNK_TOKENS == 0 or output_tokens == sent_tokens
        else:
            assert request["state"] == "completed"
            assert output_tokens == last["candidatesTokenCount"]
        cost = usage["prompt_tokens"] * INPUT_USD + output_tokens * OUTPUT_USD
        taken = -Decimal(charge["amount"]) + Decimal(charge["shortfall"])
        assert taken == cost.quantize(NANO, ROUND_UP), charge


def assert_each_answer_is_charged_once(
    answers: dict[str, Told], charges: Sequence[dict[str, Any]]
) -> None:
    """Check that who was answered pays once, for what the answer says, and who was not, nothing."""
    charged = {charge["metadata"]["request_id"]: charge for charge in charges}
    assert len(charged) == len(charges)
    for label, answer in answers.items():
        assert answer.status in {200, 402, 502}, answer
        assert answer.status != 402 or label not in charged, label
        if answer.output_tokens is not None:
            assert charged[label]["usage"].get("candidates_tokens", 0) == answer.output_tokens


def shares_of_credit(
    title: str, credit: Decimal, charges: Sequence[dict[str, Any]], answers: dict[str, Told]
) -> tuple[Decimal, Decimal]:
    """Return what was charged and what could not be, as shares of the credit; print the figures."""
    charged = -sum(Decimal(charge["amount"]) for charge in charges)
    shortfall = Decimal(sum(Decimal(charge["shortfall"]) for charge in charges))
    outcomes = Counter(f"{answer.status} {answer.code or 'whole'}" for answer in answers.values())
    print(  # noqa: T201 - the figures that -s is for
        f"\n{title}: {len(answers)} requests, {len(charges)} charges, credit {credit}, "
        f"charged {charged} ({charged / credit:.4%}), shortfall {shortfall}, {dict(outcomes)}"
    )
    return charged / credit, shortfall / credit


def use_up(
    stack: Stack, proxies: Sequence[ServiceProcess], title: str, asks: Sequence[Ask]
) -> tuple[Decimal, Decimal]:
    """Ask for far more than a new account pays for; check every booking and return the shares."""
    credit = (price_of(asks) * PAYABLE_SHARE).quantize(NANO)
    account = stack.account(format(credit, "f"))
    stack.forget_upstream()

    answers = asyncio.run(ask_all(proxies, account, asks))

    reported = {
        label_of(request): request
        for request in stack.wait_for_upstream(ended="true")
        if not request["path"].endswith(":countTokens")
    }
    booked = journal(stack, account)
    charges = [item for item in booked if item["kind"] == "charge"]
    shares = shares_of_credit(title, credit, charges, answers)
    assert_never_overdrawn(booked)
    assert_reckoned_from_usage(charges, reported)
    assert_each_answer_is_charged_once(answers, charges)
    assert_nothing_is_left_open(stack, account)
    return shares
