"""What the ledger is told of an issued key and says of its limits, and who sees its charges."""

from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest
import respx

from ai_proxy_service.core.errors import InsufficientCreditError
from ai_proxy_service.core.interfaces import HoldRequest
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_store import UsageStore
from support.billing_bench import BILLED, HOLD, SETTLEMENT, Parts, problem
from support.usage_logs import a_record

KEY_ID = "0198c0de-0000-7000-8000-000000000000"
ASKED = HoldRequest("k", "ann", 500_000_000, "req_1", key_id=KEY_ID)


@pytest.mark.parametrize("key_id", [KEY_ID, None])
async def test_a_hold_names_the_key_if_it_is_an_issued_one(
    parts: Parts, ledger: respx.MockRouter, key_id: str | None
) -> None:
    route = ledger.post("/api/v1/holds").respond(201, json=HOLD)

    await parts.service.hold(replace(ASKED, key_id=key_id))

    assert msgspec.json.decode(route.calls.last.request.content).get("key_id") == key_id


@pytest.mark.parametrize(
    ("limit", "told"),
    [("key_day", "API key's spend limit (day)"), ("day", "account's spend limit (day)")],
)
async def test_a_402_tells_whose_spend_limit_is_reached(
    parts: Parts, ledger: respx.MockRouter, limit: str, told: str
) -> None:
    ledger.post("/api/v1/holds").mock(
        return_value=problem(
            402, "spend_limit_reached", limit=limit, available="0.1", required="0.5"
        )
    )

    with pytest.raises(InsufficientCreditError, match="Wait until it begins anew") as caught:
        await parts.service.hold(ASKED)

    assert told in caught.value.message


async def test_what_is_charged_without_its_hold_is_bound_by_no_limit_of_the_key(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    """It has been used, and must not be refused."""
    route = ledger.post("/api/v1/bill").mock(
        side_effect=[
            problem(409, "hold_ended", hold_status="released"),
            httpx.Response(201, json=BILLED),
        ]
    )
    metadata = {**SETTLEMENT.metadata, "key": "laptop", "key_id": KEY_ID}

    settled = await parts.service.settle(replace(SETTLEMENT, metadata=metadata))

    assert settled.status == "charged"
    first, second = (msgspec.json.decode(call.request.content) for call in route.calls)
    assert (first["hold_id"], "key_id" in first) == ("h1", False)
    assert not {"key_id", "hold_id"} & second.keys()


async def test_an_account_of_a_configured_keys_name_sees_nothing_of_that_key(
    tmp_path: Path,
) -> None:
    store = UsageStore(open_usage_database("", tmp_path / "usage.sqlite3"))
    await store.prepare()
    own = a_record(account="tester", key_name=KEY_ID)
    others = a_record(account="bob", key_name="tester")
    await store.write([own, others], [])

    assert await store.find(own.completion_id, "another-key", "tester") == [own]
    assert await store.find(others.completion_id, "another-key", "tester") == []
    assert await store.find(others.completion_id, "tester") == [others]
    await store.aclose()
