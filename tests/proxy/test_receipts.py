"""Receipts: exact to the last digit, and recomputable by anybody who can add."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.pricing import cost_of
from ai_proxy_service.core.receipts import Receipt, receipt_of
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.core.usage_log import ChargeRecord
from ai_proxy_service.services import usage_log
from support.asgi_exchange import running_app
from support.fakes import FakeBilling, FakeGemini
from support.orders import CATALOG
from support.usage_logs import a_record

NANO = Decimal("0.000000001")
COUNTS = st.integers(min_value=0, max_value=5_000_000)


def told(*records: ChargeRecord) -> dict[str, Any]:
    """Return the receipt as a client reads it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(receipt_of(records)))
    return found


def test_a_receipt_says_each_line_what_it_comes_to_and_how_it_was_rounded() -> None:
    record = a_record(started_at_micros=1_700_000_000_900_000)

    assert told(record) == {
        "object": "receipt",
        "id": record.completion_id,
        "request_id": record.request_id,
        "account": "ann",
        "key": "tester",
        "model": "gemini-2.5-flash",
        "created": 1_700_000_000,
        "status": "charged",
        "currency": "USD",
        "cost": "0.000012346",
        "charged": "0.000012346",
        "shortfall": "0",
        "charges": [
            {
                "completion_id": record.completion_id,
                "attempt": 1,
                "status": "charged",
                "estimated": False,
                "model": "gemini-2.5-flash",
                "service_tier": "standard",
                "catalog_version": "1",
                "usage": {"prompt_tokens": 3, "candidates_tokens": 2},
                "line_items": [
                    {
                        "kind": "input",
                        "quantity": 3,
                        "unit": "token",
                        "unit_price_usd": "0.0000003001",
                        "cost_usd": "0.0000009003",
                    },
                    {
                        "kind": "output",
                        "quantity": 2,
                        "unit": "token",
                        "unit_price_usd": "0.0000057225",
                        "cost_usd": "0.000011445",
                    },
                ],
                "exact_cost_usd": "0.0000123453",
                "rounding_usd": "0.0000000007",
                "amount": "0.000012346",
                "charged": "0.000012346",
                "shortfall": "0",
                "hold_id": "h-1",
                "transaction_id": "t-1",
            }
        ],
    }


def test_a_receipt_of_several_charges_adds_them_and_says_what_most_needs_to_be_known() -> None:
    first = a_record(completion_id="c", started_at_micros=1)
    second = a_record(
        completion_id="c", attempt=2, started_at_micros=2, status="pending", charged_nanos=0
    )

    found = told(second, first)

    assert [charge["attempt"] for charge in found["charges"]] == [1, 2]
    assert (found["cost"], found["charged"]) == ("0.000024692", "0.000012346")
    assert found["status"] == "pending"


@given(
    model=st.sampled_from(sorted(CATALOG.models)),
    usage=st.builds(
        TokenUsage,
        prompt_tokens=COUNTS,
        candidates_tokens=COUNTS,
        thoughts_tokens=COUNTS,
        search_queries=st.integers(0, 9),
    ),
)
def test_a_charge_follows_from_its_lines(model: str, usage: TokenUsage) -> None:
    """Recomputed with decimals only, as whoever pays would do it."""
    cost = cost_of(usage, CATALOG.models[model])
    receipt = told(
        a_record(items=cost.items, exact_cost_pico=cost.exact_pico, amount_nanos=cost.amount_nanos)
    )
    (charge,) = receipt["charges"]

    lines = [
        Decimal(item["quantity"]) * Decimal(item["unit_price_usd"]) for item in charge["line_items"]
    ]
    assert lines == [Decimal(item["cost_usd"]) for item in charge["line_items"]]
    assert sum(lines) == Decimal(charge["exact_cost_usd"])
    amount, rounding = Decimal(charge["amount"]), Decimal(charge["rounding_usd"])
    assert amount == sum(lines) + rounding
    assert 0 <= rounding < NANO
    assert amount % NANO == 0
    assert msgspec.convert(receipt, Receipt) is not None


@pytest.mark.parametrize("asked_id", ["a\0b", "a b", "x" * 129, "ä"])
async def test_what_can_be_no_id_is_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_id: str
) -> None:
    """PostgreSQL takes no NUL."""
    looked_for: list[str] = []

    async def find(_log: object, asked_id: str, _name: str) -> list[ChargeRecord]:
        looked_for.append(asked_id)
        return []

    monkeypatch.setattr(usage_log.QueuedUsageLog, "find", find)
    async with running_app(tmp_path, FakeGemini(), FakeBilling(0)) as app:
        answer = await app.get(f"/v1/receipts/{asked_id}").end()

    assert (answer.status, answer.json()["error"]["code"]) == (404, "receipt_not_found")
    assert looked_for == []


async def test_an_unknown_receipt_is_a_404_in_openai_s_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "_FIND_PAUSES_SECONDS", (0,))
    async with running_app(tmp_path, FakeGemini(), FakeBilling(0)) as app:
        answers = [
            await app.get(f"{prefix}/receipts/chatcmpl-unknown").end() for prefix in ("", "/v1")
        ]

    for answer in answers:
        assert answer.status == 404
        assert answer.json()["error"] == {
            "message": "There is no receipt for 'chatcmpl-unknown'.",
            "type": "invalid_request_error",
            "param": None,
            "code": "receipt_not_found",
        }
