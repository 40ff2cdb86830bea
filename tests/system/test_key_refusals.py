"""Whatever the proxy refuses an issued key stands among the key's events, soon or at its end."""

import time
from pathlib import Path
from typing import Any

import httpx

from ai_proxy_service.services import refusal_reports
from support.key_holders import CHAT, admin, ask, credits_command, issue
from support.live_server import live_server
from support.proxy_app import proxy_app
from support.stack import MODEL, SERVICE_KEY, Stack, say


def refusals(stack: Stack, key_id: str, reasons: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Return a key's refusals by reason once there are some for all of these reasons.

    The test's time limit ends the waiting; the ledger writes every five seconds.
    """
    while True:
        found: dict[str, list[dict[str, Any]]] = {}
        for event in admin(stack, "GET", f"/keys/{key_id}/events")["events"]:
            if event["kind"] == "refused":
                found.setdefault(event["details"]["reason"], []).append(event)
        if reasons <= set(found):
            return found
        time.sleep(0.1)


def count(events: list[dict[str, Any]]) -> int:
    return sum(event["details"]["count"] for event in events)


def test_each_kind_of_refusal_is_on_the_record_of_its_key(stack: Stack, tmp_path: Path) -> None:
    account = stack.account("5")
    chat = {"scopes": ["chat", "models"]}
    limited = issue(stack, account, **chat, rpm=1, allowed_models=[MODEL])
    poor = issue(stack, account, **chat, limits={"day": "0.0001"})
    busy = issue(stack, account, **chat, max_concurrent=1)
    ended = issue(stack, account, **chat)
    admin(stack, "DELETE", f"/keys/{ended['key_id']}")
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}

    with live_server(proxy_app(urls, SERVICE_KEY, tmp_path)) as url:
        headers = {"authorization": f"Bearer {limited['key']}"}
        unpermitted = httpx.get(f"{url}/v1/credits", headers={**headers, "x-request-id": "first"})
        statuses = [unpermitted.status_code]
        statuses += [ask(url, limited["key"], model="gemini-2.5-pro").status_code]
        statuses += [ask(url, limited["key"]).status_code for _ in range(3)]
        path = f"{url}/v1/models/gemini-2.5-pro"
        statuses += [httpx.get(path, headers=headers).status_code]
        statuses += [ask(url, poor["key"]).status_code]
        statuses += [ask(url, ended["key"]).status_code for _ in range(3)]
        gate = stack.account()
        body = {**CHAT, "messages": say(f"[[sim tokens=5 gate={gate}]]"), "stream": True}
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {busy['key']}"},
            timeout=60,
        ) as stream:
            stack.wait_at_gate(gate)
            statuses += [ask(url, busy["key"]).status_code]
            stack.open_gate(gate)
            stream.read()
        figures = httpx.get(f"{url}/metrics").json()["keys"]

    assert statuses == [403, 400, 429, 429, 429, 404, 402, 401, 401, 401, 429]
    found = refusals(stack, limited["key_id"], {"missing_scope", "model_not_allowed", "rpm"})
    assert {reason: count(events) for reason, events in found.items()} == {
        "missing_scope": 1,
        "model_not_allowed": 2,
        "rpm": 3,
    }
    [without_scope] = found["missing_scope"]
    assert without_scope["request_id"] == "first"
    assert set(refusals(stack, poor["key_id"], {"spend_day"})) == {"spend_day"}
    assert set(refusals(stack, busy["key_id"], {"max_concurrent"})) == {"max_concurrent"}
    while count(refusals(stack, ended["key_id"], {"revoked"})["revoked"]) < 3:
        time.sleep(0.1)
    assert figures["uses_refused"] == {
        "max_concurrent": 1,
        "missing_scope": 1,
        "model_not_allowed": 2,
        "revoked": 2,
        "rpm": 3,
        "spend_day": 1,
    }
    assert figures["limits_reached"] == {"concurrent": 1, "requests": 3}
    assert figures["checks"] == {"accepted": 3, "refused": 1}
    assert figures["refusals_lost"] == 0
    shown = credits_command(stack, "keys", "events", limited["key_id"])["events"]
    assert {"missing_scope", "rpm"} <= {event["details"].get("reason") for event in shown}


def test_refusals_are_reported_while_the_proxy_runs(
    stack: Stack, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(refusal_reports, "REPORT_EVERY_SECONDS", 0.05)
    issued = issue(stack, stack.account("5"), scopes=["models"])
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}

    with live_server(proxy_app(urls, SERVICE_KEY, tmp_path)) as url:
        assert ask(url, issued["key"]).status_code == 403
        found = refusals(stack, issued["key_id"], {"missing_scope"})

    assert count(found["missing_scope"]) == 1
