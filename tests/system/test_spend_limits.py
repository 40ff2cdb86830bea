"""An account's spend limit holds for completions as its credit does."""

import openai
import pytest

from support.stack import ADMIN_KEY, MODEL, OUTPUT_USD, Stack, say


def _set(stack: Stack, account: str, **changes: object) -> None:
    answer = stack.http(stack.ledger.url, ADMIN_KEY).patch(
        f"/api/v1/accounts/{account}", json=changes
    )
    assert answer.status_code == 200, answer.text


def test_a_completion_is_cut_to_what_the_limit_leaves_and_the_next_is_refused(
    stack: Stack,
) -> None:
    account = stack.account("10")
    _set(stack, account, limits={"day": format(300 * OUTPUT_USD, "f")})

    answer = stack.openai().chat.completions.with_raw_response.create(
        model=MODEL, messages=say("[[sim tokens=5000]]"), user=account
    )

    limit_tokens = int(answer.headers["x-credits-max-output-tokens"])
    assert 250 <= limit_tokens < 300
    assert answer.parse().choices[0].finish_reason == "length"
    with pytest.raises(openai.APIStatusError) as caught:
        stack.openai().chat.completions.create(
            model=MODEL, messages=say("[[sim tokens=5000]]"), user=account
        )
    assert caught.value.status_code == 402
    assert caught.value.code == "insufficient_quota"
    assert "spend limit (day)" in caught.value.message

    _set(stack, account, limits={"day": None})

    stack.openai().chat.completions.create(
        model=MODEL, messages=say("[[sim tokens=5]]"), user=account
    )
    stack.assert_ledger_is_sound()


def test_a_frozen_account_is_served_nothing_until_it_is_opened(stack: Stack) -> None:
    account = stack.account("1")
    _set(stack, account, status="frozen")

    with pytest.raises(openai.PermissionDeniedError):
        stack.openai().chat.completions.create(model=MODEL, messages=say("x"), user=account)

    _set(stack, account, status="open")
    stack.openai().chat.completions.create(model=MODEL, messages=say("x"), user=account)
