"""Steady load on a cluster: completions by way of nginx, and bills straight to credits."""

import asyncio
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
from openai.types import CompletionUsage

from support.cluster import Cluster
from support.stack import CLIENT_KEY, MODEL, SERVICE_KEY, price_usd, say

KINDS = ("stream", "whole", "bill")
CLIENTS_OF_A_KIND = 3
BILL_USD = Decimal("0.001")
# Each answer takes about half a second, so that there is always something under way.
_ORDER = "[[sim tokens=20 chunk=4 thoughts=0 pace=40]]"
_TIMEOUT_SECONDS = 150


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        label: its request id.
        kind: one of `KINDS`.
        sent_at: when, on the monotonic clock.
        charged_as: what its charge must be named by; None if it was not answered whole.
        usd: what it costs.
        error: what its client saw instead of an answer.
    """

    label: str
    kind: str
    sent_at: float
    charged_as: str | None = None
    usd: Decimal = Decimal(0)
    error: str = ""


class Load:
    """Clients that ask one thing after the other; none of them asks anything twice.

    Attributes:
        account: who pays.
        outcomes: one for each request.
    """

    def __init__(self, cluster: Cluster, account: str) -> None:
        self.account = account
        self.outcomes: list[Outcome] = []
        self._urls = {"stream": cluster.url, "whole": cluster.url, "bill": cluster.credits_url}
        self._trust = ssl.create_default_context(cafile=cluster.certificate)
        self._changed = threading.Condition()
        self._stopped = False

    def wait_for_answers(self, more: int) -> None:
        """Return once there are so many more answers of each kind, or as many errors."""

        def counts() -> Counter[str]:
            return Counter(outcome.kind for outcome in self.outcomes if not outcome.error)

        with self._changed:
            before = counts()
            assert self._changed.wait_for(
                lambda: all(counts()[kind] - before[kind] >= more for kind in KINDS),
                _TIMEOUT_SECONDS,
            ), self.figures()

    @property
    def errors(self) -> list[Outcome]:
        """Requests without an answer."""
        return [outcome for outcome in self.outcomes if outcome.error]

    def figures(self) -> str:
        """Say how many requests of each kind were sent, and what was lost."""
        sent = Counter(outcome.kind for outcome in self.outcomes)
        lost = Counter((outcome.kind, outcome.error) for outcome in self.errors)
        return f"{len(self.outcomes)} requests {dict(sent)}, lost {len(self.errors)}: {dict(lost)}"

    async def ask_until_stopped(self) -> None:
        """Run all clients."""
        await asyncio.gather(
            *(self._client(kind, number) for kind in KINDS for number in range(CLIENTS_OF_A_KIND))
        )

    async def _client(self, kind: str, number: int) -> None:
        key = SERVICE_KEY if kind == "bill" else CLIENT_KEY
        verify: ssl.SSLContext | bool = True if kind == "bill" else self._trust
        async with httpx.AsyncClient(
            base_url=self._urls[kind],
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            verify=verify,
        ) as client:
            asked = 0
            while not self._stopped:
                asked += 1
                outcome = await self._ask(client, kind, f"{self.account}-{kind}-{number}-{asked}")
                with self._changed:
                    self.outcomes.append(outcome)
                    self._changed.notify_all()

    async def _ask(self, client: httpx.AsyncClient, kind: str, label: str) -> Outcome:
        sent_at = time.monotonic()
        ask = self._bill if kind == "bill" else self._complete
        try:
            charged_as, usd = await ask(client, kind, label)
        except (httpx.HTTPError, _NoAnswerError) as error:
            return Outcome(label, kind, sent_at, error=f"{type(error).__name__}: {error}"[:200])
        return Outcome(label, kind, sent_at, charged_as, usd)

    async def _bill(self, client: httpx.AsyncClient, _: str, label: str) -> tuple[str, Decimal]:
        answer = await client.post(
            "/api/v1/bill",
            json={
                "user_id": self.account,
                "amount": str(BILL_USD),
                "metadata": {"completion_id": label},
            },
            headers={"idempotency-key": label},
        )
        _expect_success(answer)
        return label, BILL_USD

    async def _complete(
        self, client: httpx.AsyncClient, kind: str, label: str
    ) -> tuple[str, Decimal]:
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": say(f"{_ORDER} {label}"),
            "user": self.account,
        }
        if kind == "stream":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await client.post(
            "/v1/chat/completions", json=body, headers={"x-request-id": label}
        )
        _expect_success(answer)
        last = _last_event(answer.text) if kind == "stream" else answer.json()
        return last["id"], price_usd(CompletionUsage.model_validate(last["usage"]))

    def stop(self) -> None:
        """Let the clients end after what they have asked."""
        self._stopped = True


class _NoAnswerError(Exception):
    """An error came, or a stream without its end."""


def _expect_success(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise _NoAnswerError(f"{answer.status_code} {answer.text}")


def _last_event(stream: str) -> dict[str, Any]:
    events = [event for event in stream.split("\n\n") if event.startswith("data: ")]
    if len(events) < 2 or events[-1] != "data: [DONE]":
        raise _NoAnswerError("the stream has no end")
    last: dict[str, Any] = json.loads(events[-2].removeprefix("data: "))
    if "error" in last:
        raise _NoAnswerError(f"the stream ends with {last['error']}")
    return last


@contextmanager
def load_on(cluster: Cluster, account: str) -> Iterator[Load]:
    """Ask in a thread for as long as the block runs; then wait for what was asked."""
    load = Load(cluster, account)
    asking = threading.Thread(target=lambda: asyncio.run(load.ask_until_stopped()))
    asking.start()
    try:
        yield load
    finally:
        load.stop()
        asking.join()


def assert_all_charged(
    load: Load, charges: Callable[[], list[dict[str, Any]]], patience_seconds: float = 90
) -> int:
    """Check that each answer is charged once, exactly; return how many more charges there are.

    Args:
        load: what was asked.
        charges: asks the ledger for all of the account's.
        patience_seconds: how long settlements may wait in an outbox.
    """
    answered = {outcome.charged_as: outcome.usd for outcome in load.outcomes if outcome.charged_as}
    give_up_at = time.monotonic() + patience_seconds
    while True:
        found = charges()
        charged = {item["metadata"]["completion_id"]: -Decimal(item["amount"]) for item in found}
        if answered.keys() <= charged.keys() or time.monotonic() > give_up_at:
            break
        time.sleep(0.2)
    assert {name: charged.get(name) for name in answered} == answered
    assert len(charged) == len(found)
    return len(charged.keys() - answered.keys())
