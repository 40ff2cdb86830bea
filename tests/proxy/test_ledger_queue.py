"""Operations for the ledger: alone when it is idle, together when others wait, each by itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import respx

from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.services import credits_api, ledger_queue
from ai_proxy_service.services.credits_api import CreditsApi, LedgerRefusalError
from ai_proxy_service.services.ledger_queue import LedgerOperation, LedgerQueue
from support.billing_bench import URL, problem

Json = dict[str, Any]
_BATCH = "/api/v1/batch"


@pytest.fixture
async def queue(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LedgerQueue]:
    monkeypatch.setattr(credits_api, "RETRY_PAUSE_SECONDS", 0)
    api = CreditsApi(credits_api.connect(URL, "sk-credits"))
    yield LedgerQueue(api)
    await api.aclose()


def _bill(number: int) -> LedgerOperation:
    body = {"user_id": "ann", "amount": str(number)}
    return LedgerOperation("bill", body, f"key-{number}", request_id=f"req_{number}")


def _items(request: httpx.Request) -> list[Json]:
    items: list[Json] = msgspec.json.decode(request.content)["operations"]
    return items


def _results(items: list[Json]) -> httpx.Response:
    """Answer each operation with what it asked for."""
    results = [
        {"status": 200, "replayed": False, "body": {"amount": item["body"]["amount"]}}
        for item in items
    ]
    return httpx.Response(200, json={"results": results})


class _Gate:
    """Keeps the first call waiting, and answers the later ones at once."""

    def __init__(self, ledger: respx.MockRouter) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        ledger.post("/api/v1/bill").mock(side_effect=self._answer)
        self.batches = ledger.post(_BATCH).mock(
            side_effect=lambda request: _results(_items(request))
        )

    async def _answer(self, _request: httpx.Request) -> httpx.Response:
        self.reached.set()
        await self.open.wait()
        return httpx.Response(200, json={"amount": "first"})

    async def first(self, queue: LedgerQueue) -> asyncio.Task[Json]:
        """Send one operation and return when the ledger has it."""
        task = asyncio.create_task(queue.run(_bill(0)))
        await self.reached.wait()
        return task


async def _queued(queue: LedgerQueue, *numbers: int) -> list[asyncio.Task[Json]]:
    tasks = [asyncio.create_task(queue.run(_bill(number))) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_one_that_comes_alone_goes_to_its_own_endpoint(
    queue: LedgerQueue, ledger: respx.MockRouter
) -> None:
    route = ledger.patch("/api/v1/holds/h1").respond(json={"amount": "2"})
    answer = await queue.run(LedgerOperation("amend_hold", {"amount": "2"}, hold_id="h1"))
    assert answer == {"amount": "2"}
    assert msgspec.json.decode(route.calls.last.request.content) == {"amount": "2"}


async def test_what_comes_at_once_goes_together(
    queue: LedgerQueue, ledger: respx.MockRouter
) -> None:
    route = ledger.post(_BATCH).mock(side_effect=lambda request: _results(_items(request)))
    answers = await asyncio.gather(*(queue.run(_bill(number)) for number in range(5)))
    assert [answer["amount"] for answer in answers] == ["0", "1", "2", "3", "4"]
    assert route.call_count == 1
    items = _items(route.calls.last.request)
    assert items[3] == {
        "op": "bill",
        "body": {"user_id": "ann", "amount": "3"},
        "idempotency_key": "key-3",
        "request_id": "req_3",
    }


async def test_what_waits_for_an_answer_goes_together_after_it(
    queue: LedgerQueue, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_queue, "SLOW_SECONDS", 3600)
    gate = _Gate(ledger)
    first = await gate.first(queue)
    waiting = await _queued(queue, 1, 2, 3)
    assert gate.batches.call_count == 0
    gate.open.set()
    assert await first == {"amount": "first"}
    assert [answer["amount"] for answer in await asyncio.gather(*waiting)] == ["1", "2", "3"]
    assert gate.batches.call_count == 1


async def test_a_slow_call_keeps_the_others_waiting_only_for_a_moment(
    queue: LedgerQueue, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account that is locked must not stop those of everybody else."""
    monkeypatch.setattr(ledger_queue, "SLOW_SECONDS", 0.01)
    gate = _Gate(ledger)
    first = await gate.first(queue)
    waiting = await _queued(queue, 1, 2)
    await asyncio.gather(*waiting)
    assert not first.done()
    gate.open.set()
    assert await first == {"amount": "first"}
    # The slow one's end is nobody else's turn: one call at a time goes on.
    assert (await queue.run(_bill(9)))["amount"] == "first"


async def test_each_has_an_outcome_of_its_own(queue: LedgerQueue, ledger: respx.MockRouter) -> None:
    alone = ledger.post("/api/v1/bill").mock(
        return_value=problem(409, "hold_ended", hold_status="released")
    )

    def answer(request: httpx.Request) -> httpx.Response:
        bodies = [
            (200, {"amount": "0"}),
            (402, {"code": "insufficient_credit", "available": "1", "required": "2"}),
            (409, {"code": "hold_ended", "detail": "no", "hold_status": "released"}),
            (500, {"code": "internal_error"}),
        ]
        assert len(_items(request)) == len(bodies)
        results = [{"status": s, "replayed": False, "body": body} for s, body in bodies]
        return httpx.Response(200, json={"results": results})

    ledger.post(_BATCH).mock(side_effect=answer)
    outcomes = await asyncio.gather(
        *(queue.run(_bill(number), tries=1) for number in range(4)), return_exceptions=True
    )
    assert outcomes[0] == {"amount": "0"}
    assert [type(outcome) for outcome in outcomes[1:]] == [
        InsufficientCreditError,
        LedgerRefusalError,
        BillingUnavailableError,
    ]
    assert alone.calls.last.request.headers["idempotency-key"] == "key-2"


async def test_what_a_batch_refuses_for_good_is_decided_by_its_own_endpoint(
    queue: LedgerQueue, ledger: respx.MockRouter
) -> None:
    """An older ledger does not know `request_id`: no charge is given up for that."""
    unknown = {"code": "invalid_value", "detail": "request_id is unknown"}
    results = [{"status": 422, "replayed": False, "body": unknown}] * 3
    ledger.post(_BATCH).respond(json={"results": results})
    alone = ledger.post("/api/v1/bill").mock(
        side_effect=lambda request: httpx.Response(
            200, json={"amount": msgspec.json.decode(request.content)["amount"]}
        )
    )
    answers = await asyncio.gather(*(queue.run(_bill(number), tries=1) for number in range(3)))
    assert [answer["amount"] for answer in answers] == ["0", "1", "2"]
    keys = [call.request.headers["idempotency-key"] for call in alone.calls]
    assert keys == ["key-0", "key-1", "key-2"]


async def test_a_lost_answer_is_asked_for_again_under_the_same_keys(
    queue: LedgerQueue, ledger: respx.MockRouter
) -> None:
    seen: list[list[str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append([item["idempotency_key"] for item in _items(request)])
        if len(seen) == 1:
            raise httpx.ReadTimeout("lost")
        return _results(_items(request))

    ledger.post(_BATCH).mock(side_effect=answer)
    answers = await asyncio.gather(*(queue.run(_bill(number)) for number in range(3)))
    assert [answer["amount"] for answer in answers] == ["0", "1", "2"]
    assert seen == [["key-0", "key-1", "key-2"]] * 2


@pytest.mark.parametrize(
    "answer",
    [
        problem(422, "invalid_value"),
        problem(401, "unauthorized"),
        problem(402, "insufficient_credit", available="0", required="1"),
        problem(403, "account_frozen"),
        httpx.Response(200, json={"results": []}),
        httpx.Response(200, json={"results": [{"status": 200}, {"status": 200}]}),
        httpx.Response(502, text="bad gateway"),
    ],
)
async def test_what_refuses_all_of_them_is_certain_of_none(
    queue: LedgerQueue, ledger: respx.MockRouter, answer: httpx.Response
) -> None:
    """A charge must not be given up because of what the batch as such was answered."""
    ledger.post(_BATCH).mock(return_value=answer)
    outcomes = await asyncio.gather(
        *(queue.run(_bill(number), tries=1) for number in range(2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [BillingUnavailableError] * 2


async def test_who_leaves_before_it_was_sent_asked_for_nothing(
    queue: LedgerQueue, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_queue, "SLOW_SECONDS", 3600)
    gate = _Gate(ledger)
    first = await gate.first(queue)
    leaves, *stay = await _queued(queue, 1, 2, 3)
    leaves.cancel()
    await asyncio.wait({leaves})
    gate.open.set()
    await asyncio.gather(first, *stay)
    items = _items(gate.batches.calls.last.request)
    assert [item["idempotency_key"] for item in items] == ["key-2", "key-3"]


async def test_who_leaves_stops_nobody_else(
    queue: LedgerQueue, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to leave made the call for all of them."""
    monkeypatch.setattr(ledger_queue, "SLOW_SECONDS", 3600)
    reached, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        reached.set()
        await may_answer.wait()
        return _results(_items(request))

    ledger.post(_BATCH).mock(side_effect=answer)
    leaves, stays = await _queued(queue, 1, 2)
    await reached.wait()
    leaves.cancel()
    await asyncio.wait({leaves})
    may_answer.set()
    assert (await stays)["amount"] == "2"


async def test_many_go_in_batches_of_bounded_size(
    queue: LedgerQueue, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_queue, "OPERATIONS_MAX", 10)
    route = ledger.post(_BATCH).mock(side_effect=lambda request: _results(_items(request)))
    answers = await asyncio.gather(*(queue.run(_bill(number)) for number in range(34)))
    assert [answer["amount"] for answer in answers] == [str(number) for number in range(34)]
    assert [len(_items(call.request)) for call in route.calls] == [10, 10, 10, 4]
