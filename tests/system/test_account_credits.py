"""`GET /v1/credits`, and what a quote says of a key's limits, as completions then find it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ai_proxy_service.main import create_app
from ai_proxy_service.settings import ProxySettings
from support.key_holders import CHAT, admin, ask, issue
from support.live_server import live_server
from support.stack import CLIENT_KEY, GEMINI_KEY, SERVICE_KEY, Stack

Json = dict[str, Any]
SCOPES = ["chat", "billing"]


def credits_of(stack: Stack, key: str, query: str = "") -> Json:
    answer = stack.http(stack.proxy.url, key).get(f"/v1/credits{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: Json = answer.json()
    return found


def quoted(stack: Stack, key: str, **fields: Any) -> Json:
    answer = stack.http(stack.proxy.url, key).post("/v1/quote", json={**CHAT, **fields})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def spend(stack: Stack, account: str, key_id: str, usd: str, held: str) -> None:
    client = stack.http(stack.ledger.url, SERVICE_KEY)
    named = {"user_id": account, "key_id": key_id}
    bill = {**named, "amount": usd, "description": "d"}
    client.post("/api/v1/bill", json=bill).raise_for_status()
    client.post(
        "/api/v1/holds",
        json={**named, "amount": held},
        headers={"idempotency-key": f"hold-{account}"},
    ).raise_for_status()


def test_the_holder_of_a_key_sees_the_account_and_what_is_left_of_his_limits(
    stack: Stack,
) -> None:
    account = stack.account("5")
    admin(stack, "PATCH", f"/accounts/{account}", {"limits": {"month": "4"}})
    issued = issue(stack, account, scopes=SCOPES, limits={"day": "1", "total": "9"})
    before = datetime.now(UTC)
    spend(stack, account, issued["key_id"], "0.25", held="0.5")

    found = credits_of(stack, issued["key"])

    day, month = (found["limits"][name]["renews_at"] for name in ("day", "month"))
    unlimited = {"limit": None, "spent": "0.25", "left": None}
    assert found == {
        "object": "credits",
        "account": account,
        "status": "open",
        "currency": "USD",
        "balance": "4.75",
        "held": "0.5",
        "available": "4.25",
        "spendable": "3.25",
        "limited_by": "month",
        "limits": {
            "day": {**unlimited, "renews_at": day},
            "month": {"limit": "4", "spent": "0.25", "left": "3.25", "renews_at": month},
            "total": {**unlimited, "renews_at": None},
        },
        "key": {
            "id": issued["key_id"],
            "name": "laptop",
            "held": "0.5",
            "spendable": "0.25",
            "limited_by": "key_day",
            "limits": {
                "day": {"limit": "1", "spent": "0.25", "left": "0.25", "renews_at": day},
                "month": {**unlimited, "renews_at": month},
                "total": {"limit": "9", "spent": "0.25", "left": "8.25", "renews_at": None},
            },
        },
    }
    assert before < datetime.fromisoformat(day) <= datetime.now(UTC) + timedelta(days=1)
    assert datetime.fromisoformat(day) <= datetime.fromisoformat(month)


def test_a_key_sees_its_own_account_whomever_it_names(stack: Stack) -> None:
    account, other = stack.account("1"), stack.account("2")
    key = issue(stack, account, scopes=SCOPES)["key"]

    assert credits_of(stack, key, f"?user={other}")["account"] == account


def test_a_configured_key_sees_the_account_that_it_names(stack: Stack) -> None:
    account = stack.account("1.5")

    found = credits_of(stack, CLIENT_KEY, f"?user={account}")

    assert (found["account"], found["balance"], found["key"]) == (account, "1.5", None)


def test_a_configured_key_that_names_nobody_sees_the_account_of_its_name(stack: Stack) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)

    own, named = client.get("/credits"), client.get("/v1/credits?user=tester")

    assert own.status_code == named.status_code
    assert own.json() == named.json()


@pytest.mark.parametrize(
    ("user", "status", "code"),
    [
        ("nobody/ä?#", 404, "account_not_found"),
        ("..", 400, "invalid_value"),
        ("a\nb", 400, "invalid_value"),
    ],
)
def test_what_is_no_account_is_said(stack: Stack, user: str, status: int, code: str) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)

    answer = client.get("/v1/credits", params={"user": user})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_quote_says_no_where_the_key_s_limit_does(stack: Stack) -> None:
    account = stack.account("5")
    issued = issue(stack, account, scopes=SCOPES, limits={"day": "0.0001"})

    quote = quoted(stack, issued["key"], max_tokens=1_000)
    answer = ask(stack.proxy.url, issued["key"], max_tokens=1_000)

    assert answer.status_code == 402
    assert quote["allowed"] is False
    assert quote["reason"]["code"] == answer.json()["error"]["code"] == "insufficient_quota"
    told = "Your API key's spend limit (day)"
    assert quote["reason"]["message"].startswith(told)
    assert answer.json()["error"]["message"].startswith(told)
    assert quote["account"] == {
        "available": "5",
        "spendable": "0.0001",
        "limited_by": "key_day",
    }


def test_a_quote_knows_how_far_a_key_s_limit_reaches(stack: Stack) -> None:
    """And learns of what was spent in between at once: nothing of it is kept."""
    account = stack.account("5")
    issued = issue(stack, account, scopes=SCOPES, limits={"total": "0.001"})
    words = {"messages": [{"role": "user", "content": "[[sim tokens=100 thoughts=0]]"}]}

    quote = quoted(stack, issued["key"], max_tokens=1_000, **words)
    answer = ask(stack.proxy.url, issued["key"], max_tokens=1_000, **words)
    later = quoted(stack, issued["key"], max_tokens=1_000, **words)

    lowered = int(answer.headers["x-credits-max-output-tokens"])
    assert quote["affordable_max_output_tokens"] == lowered < 1_000
    assert later["affordable_max_output_tokens"] < lowered
    assert later["account"]["available"] == answer.headers["x-credits-available"]


def test_without_a_credits_service_there_is_no_credit_to_tell_of(
    stack: Stack, tmp_path: Path
) -> None:
    app = create_app(
        ProxySettings(
            _env_file=None,
            api_keys=SecretStr(f"tester:{CLIENT_KEY}"),
            gemini_api_key=SecretStr(GEMINI_KEY),
            gemini_base_url=stack.simulator.url,
            data_dir=tmp_path,
        )
    )
    with live_server(app) as url:
        answer = httpx.get(f"{url}/v1/credits", headers={"authorization": f"Bearer {CLIENT_KEY}"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "credits_not_kept")
