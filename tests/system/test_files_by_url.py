"""Files that messages name by URL are fetched only for accounts that have something to spend."""

import httpx
import pytest

from support.stack import ADMIN_KEY, CLIENT_KEY, MODEL, SERVICE_KEY, Stack

# Nothing may be fetched from this machine: a fetch that is tried shows as this refusal.
_FETCHED = (400, "invalid_image_url")
PATHS = ("/v1/chat/completions", "/v1/quote")


def _ask(stack: Stack, path: str, account: str) -> httpx.Response:
    file = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/file.png"}}
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": [file]}],
        "user": account,
        "max_tokens": 10,
    }
    return stack.http(stack.proxy.url, CLIENT_KEY).post(path, json=body)


def _refusal(stack: Stack, path: str, account: str) -> tuple[int, str]:
    answer = _ask(stack, path, account)
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("path", PATHS)
def test_who_has_credit_is_fetched_for(stack: Stack, path: str) -> None:
    assert _refusal(stack, path, stack.account("1")) == _FETCHED


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_fetched_for_an_account_without_credit(stack: Stack, path: str) -> None:
    answer = _ask(stack, path, stack.account())
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_quota")
    assert answer.headers["x-credits-available"] == "0"
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_fetched_beyond_a_spend_limit(stack: Stack, path: str) -> None:
    account = stack.account("1")
    _change(stack, account, {"limits": {"day": "0.5"}})
    bill = {"user_id": account, "amount": "0.5", "description": "what the day allows"}
    assert stack.http(stack.ledger.url, SERVICE_KEY).post("/api/v1/bill", json=bill).is_success
    answer = _ask(stack, path, account)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_quota")
    assert "spend limit (day) is reached" in answer.json()["error"]["message"]


def test_nothing_is_fetched_for_a_frozen_account(stack: Stack) -> None:
    account = stack.account("1")
    _change(stack, account, {"status": "frozen"})
    assert _refusal(stack, PATHS[0], account) == (403, "account_frozen")


def _change(stack: Stack, account: str, fields: dict[str, object]) -> None:
    client = stack.http(stack.ledger.url, ADMIN_KEY)
    answer = client.patch(f"/api/v1/accounts/{account}", json=fields)
    assert answer.status_code == 200, answer.text
