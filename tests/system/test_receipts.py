"""Receipts of the running system: there at once, for whom they are for, equal to the ledger."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from support.databases import postgres_database, require_postgres
from support.processes import ServiceProcess
from support.stack import (
    ADMIN_KEY,
    CLIENT_KEY,
    MODEL,
    TIMEOUT_SECONDS,
    Stack,
    ledger_env,
    proxy_env,
    running_stack,
    say,
)

COMMAND = Path(sys.executable).parent / "ai-proxy-service"
OTHER_KEY = "sk-other-5d1f7a9c3b2e8460"
ANSWERS = 12
NANO = Decimal("0.000000001")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A proxy with two workers, whose second key belongs to somebody else."""
    folder = tmp_path_factory.mktemp("receipts")
    keys = f"tester:{CLIENT_KEY},ann:{OTHER_KEY}"
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, url, {"WORKERS": "2", "API_KEYS": keys}) as stack:
        yield stack


@contextmanager
def client(url: str, key: str = CLIENT_KEY) -> Iterator[httpx.Client]:
    """Connect anew for each request, so that either worker may have it."""
    limits = httpx.Limits(max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, limits=limits
    ) as client:
        yield client


def receipt(url: str, receipt_id: str, key: str = CLIENT_KEY) -> dict[str, Any]:
    with client(url, key) as asking:
        answer = asking.get(f"/v1/receipts/{receipt_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def complete(stack: Stack, account: str, text: str, *, streamed: bool = False) -> tuple[str, str]:
    """Complete with OpenAI's client; return the answer's id and what it says it cost."""
    chats = stack.openai().chat.completions
    if not streamed:
        answer = chats.create(model=MODEL, messages=say(text), user=account)
        return answer.id, cost(answer.usage)
    *_, last = chats.create(
        model=MODEL,
        messages=say(text),
        user=account,
        stream=True,
        stream_options={"include_usage": True},
    )
    return last.id, cost(last.usage)


def cost(usage: Any) -> str:
    told = usage.model_extra["cost"]
    assert isinstance(told, str)
    return told


def assert_adds_up(found: dict[str, Any]) -> None:
    """Recompute a receipt from its lines."""
    for charge in found["charges"]:
        exact = sum(
            item["quantity"] * Decimal(item["unit_price_usd"]) for item in charge["line_items"]
        )
        assert exact == Decimal(charge["exact_cost_usd"])
        assert Decimal(charge["amount"]) == exact + Decimal(charge["rounding_usd"])
        assert 0 <= Decimal(charge["rounding_usd"]) < NANO
        paid = Decimal(charge["charged"]) + Decimal(charge["shortfall"])
        assert paid == Decimal(charge["amount"])
    for sum_, part in (("cost", "amount"), ("charged", "charged"), ("shortfall", "shortfall")):
        assert Decimal(found[sum_]) == sum(Decimal(charge[part]) for charge in found["charges"])


def assert_as_in_the_ledger(stack: Stack, account: str, receipts: list[dict[str, Any]]) -> None:
    """Every charge of a receipt is a transaction, and every transaction is in a receipt."""
    booked = {charge["transaction_id"]: charge for charge in stack.transactions(account)}
    charges = [charge for found in receipts for charge in found["charges"]]
    assert {charge["transaction_id"] for charge in charges} == booked.keys()
    assert len(charges) == len(booked)
    for charge in charges:
        transaction = booked[charge["transaction_id"]]
        assert -Decimal(transaction["amount"]) == Decimal(charge["charged"])
        assert transaction["usage"] == charge["usage"]
        assert transaction["metadata"]["completion_id"] == charge["completion_id"]
        exact = Decimal(transaction["price"]["exact_cost_pico"]).scaleb(-12)
        assert exact == Decimal(charge["exact_cost_usd"])


def test_every_answer_has_a_receipt_at_once_from_either_worker(stack: Stack) -> None:
    account = stack.account("1")
    receipts = []
    for number in range(ANSWERS):
        text = f"[[sim tokens={3 + number} thoughts={number}]] answer {number}"
        answer_id, said = complete(stack, account, text, streamed=number % 2 == 0)
        found = receipt(stack.proxy.url, answer_id)
        assert (found["id"], found["account"], found["status"]) == (answer_id, account, "charged")
        assert found["charged"] == found["cost"] == said
        assert_adds_up(found)
        receipts.append(found)

    assert_as_in_the_ledger(stack, account, receipts)
    spent = sum(Decimal(found["charged"]) for found in receipts)
    assert stack.balance(account)["balance"] == 1 - spent


def test_a_receipt_is_found_by_the_request_s_id_too(stack: Stack) -> None:
    with client(stack.proxy.url) as asking:
        body = {"model": "gemini-embedding-001", "input": "some words", "user": stack.account("1")}
        answer = asking.post("/v1/embeddings", json=body)

    found = receipt(stack.proxy.url, answer.headers["x-request-id"])

    assert found["request_id"] == answer.headers["x-request-id"]
    assert found["charged"] == answer.json()["usage"]["cost"]
    assert found["charged"] == answer.headers["x-credits-charged"]
    assert_adds_up(found)


def test_a_receipt_is_for_who_asked_and_for_who_pays(stack: Stack) -> None:
    own, _ = complete(stack, stack.account("1"), "for somebody")
    credit = stack.http(stack.ledger.url, ADMIN_KEY).post(
        "/api/v1/topup",
        json={"user_id": "ann", "amount": "1"},
        headers={"idempotency-key": "topup-ann"},
    )
    assert credit.status_code == 201
    for_ann, _ = complete(stack, "ann", "for Ann")

    with client(stack.proxy.url, OTHER_KEY) as ann:
        assert ann.get(f"/v1/receipts/{for_ann}").status_code == 200
        refused = ann.get(f"/v1/receipts/{own}")
        unknown = ann.get("/v1/receipts/chatcmpl-unknown")
    with client(stack.proxy.url, "sk-nobody-5d1f7a9c3b2e8460") as nobody:
        assert nobody.get(f"/v1/receipts/{own}").status_code == 401

    assert refused.status_code == unknown.status_code == 404
    text = refused.text.replace(own, "chatcmpl-unknown")
    assert text == unknown.text


def test_the_export_has_what_the_receipts_have(stack: Stack) -> None:
    account = stack.account("1")
    answer_id, said = complete(stack, account, "to be exported")
    receipt(stack.proxy.url, answer_id)

    lines = [json.loads(line) for line in exported(stack.folder).splitlines()]
    rows = list(csv.DictReader(io.StringIO(exported(stack.folder, "--format", "csv"))))

    (record,) = [line for line in lines if line["completion_id"] == answer_id]
    assert (record["account"], record["charged"]) == (account, said)
    assert [row["billing_key"] for row in rows] == [line["billing_key"] for line in lines]


def exported(folder: Path, *options: str) -> str:
    env = {"PATH": "", "DATA_DIR": str(folder)}
    command = [str(COMMAND), "usage", "export", "--from", "2026-01-01", *options]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, check=True, text=True, timeout=60
    ).stdout


def test_what_waits_for_the_ledger_is_pending_and_then_charged(tmp_path: Path) -> None:
    ledger_url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    with running_stack(tmp_path, ledger_url) as stack:
        account, gate = stack.account("1"), "outage"
        text = f"[[sim tokens=9 thoughts=0 gate={gate}]]"
        stream = stack.openai().chat.completions.create(
            model=MODEL,
            messages=say(text),
            user=account,
            stream=True,
            stream_options={"include_usage": True},
        )
        stack.wait_at_gate(gate)
        stack.ledger.kill()
        stack.open_gate(gate)
        *_, last = stream
        pending = receipt(stack.proxy.url, last.id)

        port = str(urlsplit(stack.ledger.url).port)
        env = {**ledger_env(ledger_url, tmp_path), "PORT": port}
        with ServiceProcess("credits-service", env, cwd=tmp_path) as stack.ledger:
            stack.proxy.wait_for_event(event="settlement_delivered_late")
            charged = receipt(stack.proxy.url, last.id)
            assert_as_in_the_ledger(stack, account, [charged])

    assert (pending["status"], pending["charged"]) == ("pending", "0")
    assert pending["charges"][0]["transaction_id"] is None
    assert (charged["status"], charged["charged"]) == ("charged", charged["cost"])
    assert pending["cost"] == charged["cost"] == cost(last.usage)
    assert_adds_up(charged)


def test_machines_that_share_a_database_share_the_receipts(stack: Stack, tmp_path: Path) -> None:
    require_postgres()
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    with postgres_database() as url:
        envs = [
            {**proxy_env(urls, tmp_path / name), "USAGE_LOG_URL": url} for name in ("one", "two")
        ]
        with (
            ServiceProcess("ai-proxy-service", envs[0]) as one,
            ServiceProcess("ai-proxy-service", envs[1]) as two,
            openai.OpenAI(api_key=CLIENT_KEY, base_url=f"{one.url}/v1", max_retries=0) as asking,
        ):
            for number in range(ANSWERS):
                answer = asking.chat.completions.create(
                    model=MODEL, messages=say(f"answer {number}"), user=stack.account("1")
                )
                found = receipt(two.url, answer.id)
                assert found["charged"] == cost(answer.usage)
                assert_adds_up(found)
