"""Refused uses of issued keys, from where they are noted to the report that the ledger gets."""

import asyncio

import httpx
import msgspec
import pytest
import respx

from ai_proxy_service.core import key_refusals
from ai_proxy_service.core.errors import InsufficientCreditError
from ai_proxy_service.core.interfaces import Hold, HoldRequest
from ai_proxy_service.core.key_refusals import KeyRefusals, RefusedUses
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services import refusal_reports
from ai_proxy_service.services.key_verifier import KeyVerifier
from ai_proxy_service.services.refusal_reports import RefusalReports
from support.billing_bench import Parts, problem
from support.fakes import FakeBilling
from support.issued_keys import accepted, limited_key, refused, some_key
from support.orders import make_order
from support.relay_bench import Bench

PATH = "/api/v1/keys/refusals"


@pytest.fixture
def refusals(metrics: ProxyMetrics) -> KeyRefusals:
    return KeyRefusals(metrics.keys)


@pytest.fixture
def reports(refusals: KeyRefusals, parts: Parts) -> RefusalReports:
    return RefusalReports(refusals, parts.service._api)


def sent(route: respx.Route) -> list[list[dict[str, object]]]:
    """Return what each report said."""
    return [msgspec.json.decode(call.request.content)["refusals"] for call in list(route.calls)]


async def test_refusals_are_told_by_key_and_reason_with_their_number(
    refusals: KeyRefusals, reports: RefusalReports, ledger: respx.MockRouter
) -> None:
    route = ledger.post(PATH).respond(json={"noted": 2})
    for request_id in ("req_1", "req_2", "req_3"):
        refusals.note("k1", "rpm", request_id)
    refusals.note("k1", "missing_scope", "")

    await reports.report()
    await reports.report()

    assert sent(route) == [
        [
            {"key_id": "k1", "reason": "rpm", "count": 3, "request_id": "req_1"},
            {"key_id": "k1", "reason": "missing_scope", "count": 1, "request_id": None},
        ]
    ]


async def test_what_cant_be_told_now_is_told_later_with_what_came_meanwhile(
    refusals: KeyRefusals, reports: RefusalReports, ledger: respx.MockRouter
) -> None:
    answers: list[httpx.Response | Exception] = [
        httpx.ConnectError("no"),
        problem(503, "x"),
        httpx.Response(200, json={"noted": 1}),
    ]
    route = ledger.post(PATH).mock(side_effect=answers)
    for _ in range(3):
        refusals.note("k1", "tpm", "req_1")
        await reports.report()

    assert [uses["count"] for [uses] in sent(route)] == [1, 2, 3]
    assert len(refusals) == 0


async def test_a_report_that_the_ledger_does_not_take_is_not_sent_for_ever(
    refusals: KeyRefusals, reports: RefusalReports, ledger: respx.MockRouter, metrics: ProxyMetrics
) -> None:
    route = ledger.post(PATH).mock(return_value=problem(422, "invalid_value"))
    refusals.note("k1", "tpm", "req_1")

    await reports.report()
    await reports.report()

    assert route.call_count == 1
    assert lost(metrics) == 1


def lost(metrics: ProxyMetrics) -> float:
    return metrics.readings().total("gateway_key_refusals_lost_total")


async def test_many_refusals_are_told_in_reports_of_a_size_that_the_ledger_takes(
    refusals: KeyRefusals, reports: RefusalReports, ledger: respx.MockRouter
) -> None:
    route = ledger.post(PATH).respond(json={"noted": 1})
    for number in range(refusal_reports.REPORTED_MAX + 1):
        refusals.note(f"k{number}", "rpm", "req_1")

    await reports.report()

    assert [len(report) for report in sent(route)] == [refusal_reports.REPORTED_MAX, 1]


def test_memory_is_bounded_and_what_does_not_fit_is_counted(
    refusals: KeyRefusals, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_refusals, "WAITING_MAX", 2)
    for key_id in ("k1", "k2", "k3", "k3", "k1"):
        refusals.note(key_id, "rpm", "req_1")

    assert refusals.take(9) == [
        RefusedUses("k1", "rpm", 2, "req_1"),
        RefusedUses("k2", "rpm", 1, "req_1"),
    ]
    assert lost(metrics) == 2
    assert metrics.json_view(metrics.readings())["keys"]["uses_refused"] == {"rpm": 5}


async def test_the_end_of_the_process_waits_for_no_ledger_that_is_silent(
    refusals: KeyRefusals,
    reports: RefusalReports,
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refusal_reports, "LAST_SECONDS_MAX", 0.01)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(parts.service._api, "call", never)
    refusals.note("k1", "rpm", "req_1")

    await reports.aclose()

    assert len(refusals) == 1


@pytest.mark.parametrize(
    ("verdict", "noted"),
    [
        (refused(reason="revoked", key_id="k1"), [RefusedUses("k1", "revoked", 2, "")]),
        (refused(reason="unknown"), []),
        (refused(reason="of a later version", key_id="k1"), []),
        (accepted(), []),
    ],
)
async def test_a_key_that_is_refused_again_without_a_question_is_noted(
    refusals: KeyRefusals,
    parts: Parts,
    ledger: respx.MockRouter,
    verdict: dict[str, object],
    noted: list[RefusedUses],
) -> None:
    """The ledger has noted the one that it was asked about itself."""
    ledger.post("/api/v1/keys/verify").respond(json=verdict)
    verifier, key = KeyVerifier(parts.service._api, parts.metrics, refusals), some_key()

    await asyncio.gather(verifier.verify(key), verifier.verify(key))
    await verifier.verify(key)

    assert refusals.take(9) == noted


class LimitedBilling(FakeBilling):
    """Refuses every hold for a spend limit."""

    limit: str | None = "key_day"

    async def hold(self, request: HoldRequest) -> Hold:
        raise InsufficientCreditError("no", available_nanos=0, limit=self.limit)


@pytest.mark.parametrize(
    ("limit", "noted"),
    [
        ("key_day", ["spend_day"]),
        ("key_month", ["spend_month"]),
        ("key_total", ["spend_total"]),
        ("day", []),
        (None, []),
    ],
)
async def test_only_a_limit_of_the_key_is_noted_for_the_key(
    bench: Bench, limit: str | None, noted: list[str]
) -> None:
    """What the account can't pay for is no use of the key that anybody forbade."""
    bench.billing = LimitedBilling(0)
    bench.billing.limit = limit
    key = limited_key()

    with pytest.raises(InsufficientCreditError):
        await bench.relay().open(make_order(issued_key=key))
    with pytest.raises(InsufficientCreditError):
        await bench.relay().open(make_order())

    assert [(uses.key_id, uses.reason) for uses in bench.refusals.take(9)] == [
        (key.name, reason) for reason in noted
    ]
