"""What a completion costs in work that can be counted, whatever the machine.

A change that adds a call, or ends the sharing of them, shows here before any benchmark is run.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal

import httpx
import pytest

from support.scrapes import scrape
from support.stack import CLIENT_KEY, MODEL, TIMEOUT_SECONDS, Stack, running_stack, say

CROWD = 48
CHUNKS = 64
_CALLS = {
    "/api/v1/holds": "hold",
    "/api/v1/bill": "bill",
    "/api/v1/batch": "batch",
    "/api/v1/holds/{hold_id}": "hold, changed",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of its own: nothing that another test has left running is counted."""
    folder = tmp_path_factory.mktemp("counted")
    with running_stack(folder, f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}") as stack:
        yield stack


class Work:
    """What was done meanwhile: the ledger's requests by what they were, and its operations."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.operations = 0


@contextmanager
def _counted(stack: Stack) -> Iterator[Work]:
    def seen() -> tuple[dict[str, float], float]:
        figures = scrape(stack.ledger.url)
        routes = {
            name: sum(figures.by_labels("http_server_requests_total", {"route": route}))
            for route, name in _CALLS.items()
        }
        return routes, sum(figures.by_labels("ledger_operations_total", {}))

    work = Work()
    before, operations_before = seen()
    yield work
    after, operations_after = seen()
    work.calls = {
        name: int(after[name] - before[name]) for name in after if after[name] > before[name]
    }
    work.operations = int(operations_after - operations_before)


def _ask(stack: Stack, account: str, order: str = "tokens=5", *, stream: bool = False) -> int:
    """Complete once; return how many pieces the answer came in."""
    body = {"model": MODEL, "messages": say(f"[[sim {order}]]"), "user": account, "max_tokens": 500}
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS) as client,
        client.stream(
            "POST",
            f"{stack.proxy.url}/v1/chat/completions",
            json={**body, "stream": stream},
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
        ) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        return sum(1 for line in answer.iter_lines() if line.startswith("data: {") or not stream)


def test_a_whole_answer_takes_two_calls_of_the_ledger_and_one_of_gemini(stack: Stack) -> None:
    account = stack.account("1")
    stack.forget_upstream()
    with _counted(stack) as work:
        _ask(stack, account)
    assert work.calls == {"hold": 1, "bill": 1}
    assert work.operations == 2
    assert len(stack.wait_for_upstream()) == 1


def test_a_stream_takes_no_more_however_many_chunks_it_has(stack: Stack) -> None:
    account = stack.account("1")
    stack.forget_upstream()
    with _counted(stack) as work:
        assert _ask(stack, account, f"tokens={CHUNKS} thoughts=0", stream=True) >= CHUNKS / 2
    assert work.calls == {"hold": 1, "bill": 1}
    assert len(stack.wait_for_upstream()) == 1


def test_a_crowd_shares_its_calls_of_the_ledger(stack: Stack) -> None:
    """Each completion has its hold and its charge; they share calls, and nothing is asked twice."""
    account = stack.account("10")
    with ThreadPoolExecutor(CROWD) as pool, _counted(stack) as work:
        list(pool.map(lambda _: _ask(stack, account), range(CROWD)))
    assert work.operations == 2 * CROWD
    assert sum(work.calls.values()) < 2 * CROWD
    assert work.calls["batch"] > 0
    charges = stack.transactions(account)
    assert len(charges) == CROWD
    spent = sum(-Decimal(charge["amount"]) for charge in charges)
    assert stack.balance(account) == {"balance": 10 - spent, "held": 0, "available": 10 - spent}
