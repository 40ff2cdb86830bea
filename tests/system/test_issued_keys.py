"""Issued keys on the running system: who is let in, to what, who pays, and when it ends."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ai_proxy_service import main
from ai_proxy_service.services.key_verifier import KeyVerifier
from support.issued_keys import Clock, some_key
from support.key_holders import CHAT, admin, ask, credits_command, issue, two_proxies
from support.live_server import live_server
from support.proxy_app import proxy_app
from support.stack import (
    CLIENT_KEY,
    MODEL,
    SERVICE_KEY,
    Stack,
    price_usd,
    say,
)

EMBEDDING_MODEL = "gemini-embedding-001"

# What each route takes, and the scope that a key needs for it.
ROUTES: tuple[tuple[str, str, dict[str, Any] | None, str], ...] = (
    ("POST", "/v1/chat/completions", CHAT, "chat"),
    ("POST", "/chat/completions", CHAT, "chat"),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": "hi"}, "chat"),
    ("POST", "/v1/quote", CHAT, "chat"),
    ("POST", "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "hi"}, "embeddings"),
    ("GET", "/v1/models", None, "models"),
    ("GET", f"/v1/models/{MODEL}", None, "models"),
    ("GET", "/v1/receipts/chatcmpl-unknown", None, "billing"),
    ("GET", "/v1/credits", None, "billing"),
    ("GET", "/credits", None, "billing"),
)
SCOPES = ("chat", "embeddings", "models", "billing")


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Return status, type and code of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


REFUSED = (401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("scope", [*SCOPES, "admin"])
def test_a_key_reaches_what_its_scopes_name_and_nothing_else(stack: Stack, scope: str) -> None:
    key = issue(stack, stack.account("1"), scopes=[scope])["key"]
    client = stack.http(stack.proxy.url, key)

    for method, path, body, needed in ROUTES:
        answer = client.request(method, path, json=body)
        if scope in {needed, "admin"}:
            expected = 404 if "unknown" in path else 200
            assert answer.status_code == expected, (path, answer.text)
        else:
            error = answer.json()["error"]
            assert (answer.status_code, error["type"]) == (403, "permission_error"), path
            assert error["code"] == "insufficient_permissions"
            assert error["message"].endswith(f"Missing scopes: {needed}.")


def test_the_table_names_every_route_behind_keys(stack: Stack) -> None:
    paths = stack.http(stack.proxy.url, None).get("/openapi.json").json()["paths"]
    behind_keys = {
        path
        for path, methods in paths.items()
        for method in methods.values()
        if "security" not in method
    }

    tested = {path for _, path, _, _ in ROUTES if path.startswith("/v1")}
    assert tested == {
        path.format(model=MODEL, receipt_id="chatcmpl-unknown") for path in behind_keys
    }


def test_a_key_sees_and_uses_only_its_models(stack: Stack) -> None:
    allowed = ["gemini-2.5-flash", "gemini-3*"]
    issued = issue(stack, stack.account("1"), scopes=["chat", "models"], allowed_models=allowed)
    client = stack.openai(key=issued["key"])

    listed = {model.id for model in client.models.list()}
    everything = {model.id for model in stack.openai().models.list()}

    assert listed == {name for name in everything if name == MODEL or name.startswith("gemini-3")}
    assert MODEL in listed
    assert len(listed) < len(everything)
    client.chat.completions.create(model=MODEL, messages=say("hi"))
    client.chat.completions.create(model="gpt-4o-mini", messages=say("hi"))  # an alias of MODEL
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gemini-2.5-pro", messages=say("hi"))
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model="gemini-none", messages=say("hi"))
    assert refused.value.code == unknown.value.code == "model_not_found"
    assert refused.value.message.replace("2.5-pro", "none") == unknown.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gemini-2.5-pro")


def test_a_key_pays_from_its_own_account_whomever_it_names(stack: Stack) -> None:
    account, other = stack.account("1"), stack.account("1")
    issued = issue(stack, account, scopes=["chat", "billing"])

    answer = stack.openai(key=issued["key"]).chat.completions.create(
        model=MODEL, messages=say("hi"), user=other, extra_body={"user_id": other}
    )

    [charge] = stack.transactions(account)
    assert stack.transactions(other) == []
    assert -Decimal(charge["amount"]) == price_usd(answer.usage)
    assert charge["metadata"]["key"] == "laptop"
    assert charge["metadata"]["key_id"] == issued["key_id"]
    assert charge["metadata"]["end_user"] == other
    logged = stack.proxy.wait_for_event(event="charged", completion_id=answer.id)
    assert (logged["key"], logged["key_id"]) == ("laptop", issued["key_id"])
    assert not any(issued["key"][12:] in line for line in stack.proxy.lines)


@pytest.mark.parametrize("usd", ["1", "0.002"])
def test_the_hold_counts_for_the_key_also_where_it_takes_what_there_is(
    stack: Stack, usd: str
) -> None:
    gate = account = stack.account(usd)
    issued = issue(stack, account)
    messages = say(f"[[sim tokens=5 gate={gate}]]")
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask, stack.proxy.url, issued["key"], messages=messages, stream=True)
        stack.wait_at_gate(gate)
        [hold] = admin(stack, "GET", f"/accounts/{account}/holds")["holds"]
        stack.open_gate(gate)
        answer = asking.result()

    assert answer.status_code == 200
    assert hold["key_id"] == issued["key_id"]


def test_a_prompt_of_the_old_form_and_embeddings_name_the_key_too(stack: Stack) -> None:
    account = stack.account("1")
    issued = issue(stack, account, scopes=["chat", "embeddings"])
    client = stack.openai(key=issued["key"])

    client.completions.create(model=MODEL, prompt="hi", user="walter")
    client.embeddings.create(model=EMBEDDING_MODEL, input="hi", user="walter")

    charges = [charge["metadata"] for charge in stack.transactions(account)]
    assert [charge["key_id"] for charge in charges] == [issued["key_id"]] * 2
    assert [charge["end_user"] for charge in charges] == ["walter"] * 2


def test_receipts_are_for_keys_of_the_account_that_paid(stack: Stack) -> None:
    account = stack.account("1")
    one, another = (issue(stack, account, scopes=["chat", "billing"]) for _ in range(2))
    stranger = issue(stack, stack.account("1"), scopes=["billing"])
    own = stack.openai(key=one["key"]).chat.completions.create(model=MODEL, messages=say("hi"))
    others = stack.openai().chat.completions.create(
        model=MODEL, messages=say("hi"), user=stack.account("1")
    )

    def status(key: str, receipt_id: str) -> int:
        return stack.http(stack.proxy.url, key).get(f"/v1/receipts/{receipt_id}").status_code

    assert status(one["key"], own.id) == status(another["key"], own.id) == 200
    assert status(stranger["key"], own.id) == status(CLIENT_KEY, own.id) == 404
    assert status(stranger["key"], others.id) == status(one["key"], others.id) == 404
    assert status(CLIENT_KEY, others.id) == 200
    receipt = stack.http(stack.proxy.url, one["key"]).get(f"/v1/receipts/{own.id}").json()
    assert (receipt["account"], receipt["key"]) == (account, one["key_id"])


def test_an_idempotency_key_is_the_issued_keys_own(stack: Stack) -> None:
    account = stack.account("1")
    one, another = (issue(stack, account)["key"] for _ in range(2))
    header = {"idempotency-key": f"order-{account}"}

    answers = [
        stack.http(stack.proxy.url, key).post("/v1/chat/completions", json=CHAT, headers=header)
        for key in (one, one, another)
    ]

    first, again, others = (answer.json()["id"] for answer in answers)
    assert first == again
    assert others != first
    assert len(stack.transactions(account)) == 2


@pytest.mark.parametrize("how", ["unknown", "malformed", "revoked", "disabled"])
def test_a_key_that_is_not_accepted_gets_the_same_401(stack: Stack, how: str) -> None:
    key = some_key()
    if how in {"revoked", "disabled"}:
        issued = issue(stack, stack.account("1"))
        path, key = f"/keys/{issued['key_id']}", issued["key"]
        if how == "revoked":
            admin(stack, "DELETE", path)
        else:
            admin(stack, "PATCH", path, {"disabled": True})
    elif how == "malformed":
        key = key[:-1]
    headers = {"x-request-id": "same", "authorization": f"Bearer {key}"}

    answer = httpx.get(f"{stack.proxy.url}/v1/models", headers=headers)
    wrong = httpx.get(f"{stack.proxy.url}/v1/models", headers={"x-request-id": "same"})

    assert error_of(answer) == REFUSED
    assert answer.content == wrong.content
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which proxies in this process keep verdicts."""
    clock = Clock()
    monkeypatch.setattr(main, "KeyVerifier", partial(KeyVerifier, clock=clock))
    return clock


def test_a_revocation_bites_at_every_proxy_within_ten_seconds(
    stack: Stack, tmp_path: Path, clock: Clock
) -> None:
    issued = issue(stack, stack.account("1"))
    with two_proxies(stack, tmp_path) as urls:
        before = [ask(url, issued["key"]).status_code for url in urls]
        credits_command(stack, "keys", "revoke", issued["key_id"], "--yes")

        clock.seconds += 10
        after = [error_of(ask(url, issued["key"])) for url in urls]

    assert before == [200, 200]
    assert after == [REFUSED, REFUSED]


def test_a_rotated_key_works_until_its_grace_ends(
    stack: Stack, tmp_path: Path, clock: Clock
) -> None:
    account = stack.account("1")
    issued = issue(stack, account)
    old = issued["key"]
    with two_proxies(stack, tmp_path) as (url, _):
        assert ask(url, old).status_code == 200
        path = f"/keys/{issued['key_id']}/rotate"
        new = admin(stack, "POST", path, {"grace_seconds": 3600})["key"]
        clock.seconds += 10
        within = [ask(url, key).status_code for key in (old, new)]
        admin(stack, "POST", path, {"grace_seconds": 0})
        clock.seconds += 10
        without = [error_of(ask(url, key)) for key in (old, new)]

    assert within == [200, 200]
    assert without == [REFUSED, REFUSED]
    key_ids = {charge["metadata"]["key_id"] for charge in stack.transactions(account)}
    assert key_ids == {issued["key_id"]}, "a rotated key is the same key"


def test_while_the_ledger_is_away_issued_keys_get_503_and_configured_ones_go_on(
    stack: Stack, tmp_path: Path
) -> None:
    urls = {"simulator": stack.simulator.url, "ledger": "http://127.0.0.1:9"}
    with live_server(proxy_app(urls, SERVICE_KEY, tmp_path)) as url:
        answer = ask(url, some_key())
        known = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {CLIENT_KEY}"})

    assert error_of(answer) == (503, "service_unavailable_error", "key_check_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert known.status_code == 200


def test_without_a_credits_service_only_configured_keys_count(stack: Stack, tmp_path: Path) -> None:
    urls = {"simulator": stack.simulator.url, "ledger": ""}
    with live_server(proxy_app(urls, "", tmp_path)) as url:
        assert error_of(ask(url, some_key())) == REFUSED
        assert ask(url, CLIENT_KEY).status_code == 200


def test_a_key_that_the_command_makes_works_at_once(stack: Stack) -> None:
    made = credits_command(
        stack, "keys", "create", stack.account("1"), "--name", "ci", "--scope", "chat"
    )

    assert ask(stack.proxy.url, made["key"]).status_code == 200
