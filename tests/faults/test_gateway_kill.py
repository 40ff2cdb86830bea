"""`kill -9` under load, seen from the clients: no answer unpaid, none paid twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from openai import Stream
from openai.types.chat import ChatCompletionChunk

from support.processes import ServiceProcess
from support.stack import (
    CLIENT_KEY,
    MODEL,
    Stack,
    ledger_env,
    price_usd,
    proxy_env,
    running_stack,
    say,
)

CLIENTS = 8
REQUESTS = 120


@dataclass(frozen=True)
class Served:
    """A completion that a client was given, or the status it got instead."""

    completion_id: str = ""
    price_usd: Decimal = Decimal(0)
    status: int = 200


@pytest.fixture
def stack(tmp_path: Path, ledger_url: str) -> Iterator[Stack]:
    with running_stack(tmp_path, ledger_url) as stack:
        yield stack


def ask(stack: Stack, account: str, number: int, order: str = "") -> Served:
    """Complete once, as a stream every other time."""
    text = f"answer {number} {order}"
    with openai.OpenAI(
        api_key=CLIENT_KEY, base_url=f"{stack.proxy.url}/v1", max_retries=0, timeout=60
    ) as client:
        try:
            if number % 2:
                answer = client.chat.completions.create(
                    model=MODEL, messages=say(text), user=account
                )
                return Served(answer.id, price_usd(answer.usage))
            chunks = list(
                client.chat.completions.create(
                    model=MODEL,
                    messages=say(text),
                    user=account,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )
            return Served(chunks[-1].id, price_usd(chunks[-1].usage))
        except openai.APIStatusError as error:
            return Served(status=error.status_code)


@contextmanager
def streaming(stack: Stack, account: str, gate: str) -> Iterator[Stream[ChatCompletionChunk]]:
    """Open a stream of nine tokens that the gate holds back."""
    with openai.OpenAI(
        api_key=CLIENT_KEY, base_url=f"{stack.proxy.url}/v1", max_retries=0, timeout=60
    ) as client:
        yield client.chat.completions.create(
            model=MODEL,
            messages=say(f"[[sim tokens=9 thoughts=0 gate={gate}]]"),
            user=account,
            stream=True,
            stream_options={"include_usage": True},
        )


def restart_ledger(stack: Stack) -> ServiceProcess:
    """Start the credits service again where the proxy knows it to be."""
    port = str(urlsplit(stack.ledger.url).port)
    env = {**ledger_env(stack.ledger_url, stack.folder), "PORT": port}
    return ServiceProcess("credits-service", env, cwd=stack.folder).wait_until_listening()


def assert_charged_exactly(stack: Stack, account: str, served: list[Served]) -> None:
    charges = {
        charge["metadata"]["completion_id"]: -Decimal(charge["amount"])
        for charge in stack.transactions(account)
    }
    answered = {answer.completion_id: answer.price_usd for answer in served if answer.status == 200}
    assert charges == answered
    assert len(stack.transactions(account)) == len(charges)
    assert stack.balance(account)["balance"] == 1 - sum(answered.values())
    stack.assert_ledger_is_sound()


def test_a_killed_ledger_loses_and_doubles_no_charge(stack: Stack) -> None:
    account = stack.account("1")
    gate = f"running-{account}"
    held_back = f"[[sim tokens=9 thoughts=0 gate={gate}]]"
    with ThreadPoolExecutor(CLIENTS) as clients:
        # Some answers are sure to be running when the ledger is killed.
        answers = [clients.submit(ask, stack, account, number, held_back) for number in range(3)]
        stack.wait_at_gate(gate, streams=3)
        answers += [clients.submit(ask, stack, account, number) for number in range(REQUESTS)]
        stack.ledger.wait_for_event(path="/api/v1/bill", status=200)
        stack.ledger.kill()
        stack.open_gate(gate)
        # Those that ran are finished and kept; new ones are told to come again.
        stack.proxy.wait_for_event(event="settlement_kept_for_later")
        stack.ledger = restart_ledger(stack)
        served = [answer.result() for answer in answers]

    with stack.ledger:
        assert {answer.status for answer in served} <= {200, 503}
        assert sum(answer.status == 200 for answer in served) > len(answers[:3])
        kept = [
            event["key"]
            for event in stack.proxy.events()
            if event["event"] == "settlement_kept_for_later"
        ]
        for key in kept:
            stack.proxy.wait_for_event(event="settlement_delivered_late", key=key)
        assert_charged_exactly(stack, account, served)
        metrics = stack.http(stack.proxy.url, None).get("/metrics").json()
        assert metrics["billing"]["settlements_waiting"] == 0
        assert metrics["billing"]["settlements_failed"] == 0


def test_a_killed_proxy_delivers_what_it_had_kept_when_it_is_back(stack: Stack) -> None:
    account = stack.account("1")
    gate = f"kept-{account}"
    stack.release(gate, 3)
    with streaming(stack, account, gate) as stream:
        stack.ledger.kill()
        stack.open_gate(gate)
        chunks = list(stream)
    served = Served(chunks[-1].id, price_usd(chunks[-1].usage))
    stack.proxy.kill()

    stack.ledger = restart_ledger(stack)
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    with (
        stack.ledger,
        ServiceProcess(
            "ai-proxy-service", proxy_env(urls, stack.folder), cwd=stack.folder
        ) as proxy,
    ):
        proxy.wait_for_event(event="settlement_delivered_late")
        assert_charged_exactly(stack, account, [served])
        assert stack.balance(account)["held"] == 0


def test_a_stream_that_runs_when_the_proxy_is_told_to_end_is_finished(stack: Stack) -> None:
    account = stack.account("1")
    gate = f"ending-{account}"
    stack.release(gate, 3)
    with streaming(stack, account, gate) as stream:
        stack.proxy.process.terminate()
        stack.proxy.wait_for_event(event="Shutting down")
        stack.open_gate(gate)
        chunks = list(stream)

    assert chunks[-2].choices[0].finish_reason == "stop"
    assert stack.proxy.wait() == 0
    assert_charged_exactly(stack, account, [Served(chunks[-1].id, price_usd(chunks[-1].usage))])
