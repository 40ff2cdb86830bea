"""The client of the credits service, where things go wrong."""

import asyncio

import httpx
import msgspec
import pytest
import respx

from ai_proxy_service.api.serving import COMMIT_SECONDS
from ai_proxy_service.core.errors import (
    AccountClosedError,
    BillingUnavailableError,
    InsufficientCreditError,
)
from ai_proxy_service.core.interfaces import Hold, HoldRequest
from ai_proxy_service.services import billing_service
from ai_proxy_service.services.credits_api import CreditsApi
from support.billing_bench import BILLED, HOLD, SETTLEMENT, Parts, problem


async def place(parts: Parts) -> Hold:
    return await parts.service.hold(HoldRequest("k", "alice", 500_000_000, "req_1"))


async def test_a_hold_carries_its_key_and_exact_amounts(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/holds").respond(201, json=HOLD)

    hold = await place(parts)

    assert hold == Hold("h1", 500_000_000, 1_250_000_000)
    request = route.calls.last.request
    assert request.headers["idempotency-key"] == "k"
    assert request.headers["authorization"] == "Bearer sk-credits"
    body = msgspec.json.decode(request.content)
    assert (body["user_id"], body["amount"]) == ("alice", "0.5")


async def test_a_402_says_what_there_is_and_whether_waiting_helps(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/holds").mock(
        return_value=problem(
            402, "insufficient_credit", available="0.1", required="0.5", retryable=True
        )
    )

    with pytest.raises(InsufficientCreditError) as caught:
        await place(parts)

    assert caught.value.available_nanos == 100_000_000
    assert caught.value.retryable
    assert caught.value.status == 402
    assert caught.value.headers == {
        "x-should-retry": "false",
        "x-credits-available": "0.1",
        "x-credits-required": "0.5",
        "x-credits-waiting-helps": "true",
    }


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500, 503])
async def test_anything_uncertain_is_unavailable_never_free(
    parts: Parts, ledger: respx.MockRouter, status: int
) -> None:
    ledger.post("/api/v1/holds").respond(status, json={"title": "x"})

    with pytest.raises(BillingUnavailableError):
        await place(parts)


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/holds").mock(
        side_effect=[httpx.ReadTimeout("lost"), httpx.Response(201, json=HOLD)]
    )

    await place(parts)

    assert [call.request.headers["idempotency-key"] for call in route.calls] == ["k", "k"]


async def test_a_wrong_credits_key_loses_no_settlement(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(401)

    with pytest.raises(BillingUnavailableError):
        await parts.service.deliver("k", b"{}")


async def test_a_hold_that_cannot_be_released_is_left_to_expire(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.delete("/api/v1/holds/h1").respond(503)

    await parts.service.release(Hold("h1", 1, None))


async def test_what_an_account_could_not_pay_is_counted(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/bill").respond(
        json={
            "transaction_id": "t",
            "amount": "0.00001",
            "shortfall": "0.000002345",
            "available": "0",
        }
    )

    settled = await parts.service.settle(SETTLEMENT)

    assert (settled.charged_nanos, settled.available_nanos) == (10_000, 0)
    assert settled.status == "charged"
    assert parts.metrics.readings().total("gateway_shortfall_nanousd_total") == 2_345


async def test_a_charge_on_a_hold_that_somebody_released_is_taken_from_what_is_there(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    route = ledger.post("/api/v1/bill").mock(
        side_effect=[
            problem(409, "hold_ended", hold_status="released"),
            httpx.Response(200, json=BILLED),
        ]
    )

    settled = await parts.service.settle(SETTLEMENT)

    assert settled.charged_nanos == 12_345
    assert "hold_id" not in msgspec.json.decode(route.calls.last.request.content)


async def test_a_charge_without_the_hold_whose_answer_was_lost_is_found_again(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    """The outbox has the body with the hold: under its key another one was booked."""
    route = ledger.post("/api/v1/bill").mock(
        side_effect=[
            problem(409, "hold_ended", hold_status="released"),
            *[httpx.ReadTimeout("lost")] * 2,
            problem(422, "idempotency_key_reused"),
            httpx.Response(200, json=BILLED),
        ]
    )

    settled = await parts.service.settle(SETTLEMENT)
    await parts.deliver_until_empty()

    assert settled.status == "pending"
    assert "hold_id" not in msgspec.json.decode(route.calls.last.request.content)
    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 0


async def test_a_hold_that_is_captured_already_is_not_charged_again(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    refusal = problem(409, "hold_ended", hold_status="captured")
    route = ledger.post("/api/v1/bill").mock(return_value=refusal)

    settled = await parts.service.settle(SETTLEMENT)

    assert (settled.charged_nanos, route.call_count) == (0, 1)
    assert parts.metrics.readings().total("gateway_settlements_failed_total") == 1


@pytest.mark.parametrize("status", [302, 404, 408, 413, 502])
async def test_what_only_an_ingress_says_refuses_nothing_for_good(
    parts: Parts, ledger: respx.MockRouter, status: int
) -> None:
    ledger.post("/api/v1/bill").respond(status, json={})

    with pytest.raises(BillingUnavailableError):
        await parts.service.deliver("k", b"{}")


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"[]", b'{"amount": 5}'])
async def test_an_answer_that_cannot_be_read_is_asked_for_again_later(
    parts: Parts, ledger: respx.MockRouter, content: bytes
) -> None:
    """The ledger may have booked it: the same key tells."""
    ledger.post("/api/v1/bill").respond(200, content=content)

    settled = await parts.service.settle(SETTLEMENT)

    assert settled.status == "pending"
    assert await parts.outbox.count() == 1


async def test_a_hold_whose_answer_was_lost_is_found_by_its_key_and_released(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.post("/api/v1/holds").respond(201, json=HOLD)
    released = ledger.delete("/api/v1/holds/h1").respond(200, json=HOLD)

    await parts.service.withdraw(HoldRequest("k", "alice", 500_000_000, "req_1"))

    assert released.called


async def test_a_hold_that_is_withdrawn_is_looked_for_until_its_release_is_answered(
    parts: Parts, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(billing_service, "WITHDRAW_PAUSES_SECONDS", (0, 0, 0))
    ledger.post("/api/v1/holds").respond(201, json=HOLD)
    refusals = [httpx.Response(503)] * 3
    released = ledger.delete("/api/v1/holds/h1").mock(
        side_effect=[*refusals, httpx.Response(200, json=HOLD)]
    )

    await parts.service.withdraw(HoldRequest("k", "alice", 500_000_000, "req_1"))

    assert released.call_count == 4


async def test_a_hold_that_takes_too_long_is_unavailable_while_there_is_still_a_status(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert billing_service.HOLD_SECONDS_MAX < COMMIT_SECONDS
    monkeypatch.setattr(billing_service, "HOLD_SECONDS_MAX", 0.01)

    async def never(*_arguments: object, **_options: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(CreditsApi, "call", never)

    with pytest.raises(BillingUnavailableError):
        await place(parts)


@pytest.mark.parametrize("code", ["account_frozen", "account_closed"])
async def test_an_account_that_may_not_be_used_is_a_403(
    parts: Parts, ledger: respx.MockRouter, code: str
) -> None:
    ledger.post("/api/v1/holds").mock(return_value=problem(403, code))

    with pytest.raises(AccountClosedError) as caught:
        await place(parts)

    assert (caught.value.status, caught.value.code) == (403, code)
