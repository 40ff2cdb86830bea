"""Records of the usage log and charges of the ledger that fit each other, for tests to spoil."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from credits.client import Json
from credits_service.core.moments import micros_from_datetime
from credits_service.core.money import nanos_ceil, usd_from_nanos
from credits_service.reconciliation.ledger_charges import LedgerCharge
from credits_service.reconciliation.usage_log import Item, UsageRecord

INPUT_SKU = "Generate content input token count gemini 2.5 flash lite short input text"
OUTPUT_SKU = "Generate content output token count gemini 2.5 flash lite short output text"
ENDED_AT = datetime.fromisoformat("2026-11-10T12:00:00+00:00")


def record_of_tokens(
    key: str = "chatcmpl-1",
    input_tokens: int = 1_001,
    output_tokens: int = 20,
    ended_at: datetime = ENDED_AT,
    **changes: Any,
) -> UsageRecord:
    """A charged completion of a model that costs 0.10 and 0.40 USD per million tokens."""
    items = [Item("input", input_tokens, "token", 100_000)]
    items += [Item("output", output_tokens, "token", 400_000)] if output_tokens else []
    pico = sum(item.cost_pico for item in items)
    amount = Decimal(usd_from_nanos(nanos_ceil(pico)))
    record = UsageRecord(
        completion_id=key,
        attempt=1,
        billing_key=key,
        request_id=f"req-{key}",
        account="ann",
        model="gemini-2.5-flash-lite",
        service_tier="standard",
        ended_at=ended_at,
        usage={"prompt_tokens": input_tokens, "candidates_tokens": output_tokens},
        items=items,
        exact_cost_pico=str(pico),
        amount=amount,
        charged=amount,
        shortfall=Decimal(0),
        status="charged",
        hold_id=None,
        transaction_id=f"tx-{key}",
    )
    return msgspec.structs.replace(record, **changes)


def charge_for(record: UsageRecord, **changes: Any) -> LedgerCharge:
    """The charge that the ledger has for a record."""
    charge = LedgerCharge(
        transaction_id=f"tx-{record.billing_key}",
        user_id=record.account,
        origin="proxy",
        key=record.billing_key,
        completion_id=record.completion_id,
        request_id=record.request_id,
        booked_at_micros=micros_from_datetime(record.ended_at),
        requested_nanos=record.amount_nanos,
        charged_nanos=record.amount_nanos,
        settled_before_nanos=0,
        shortfall_nanos=0,
        hold_id=record.hold_id,
        usage={name: count for name, count in record.usage.items() if count},
        exact_cost_picos=record.exact_pico,
    )
    return msgspec.structs.replace(charge, **changes)


def bill_for(record: UsageRecord) -> Json:
    """What the proxy asks the ledger for, besides the account, the amount and the key."""
    metadata = {"completion_id": record.completion_id, "request_id": record.request_id}
    return {
        "usage": {name: count for name, count in record.usage.items() if count},
        "price": {"model": record.model, "exact_cost_pico": record.exact_cost_pico},
        "metadata": metadata | ({"attempt": record.attempt} if record.attempt > 1 else {}),
    }


def line_of(record: UsageRecord) -> bytes:
    """The record as the proxy exports it."""
    known = msgspec.to_builtins(record)
    exported = {
        **known,
        "key": "default",
        "catalog_version": "2026-11-24",
        "started_at": known["ended_at"],
        "estimated": False,
    }
    return msgspec.json.encode(exported) + b"\n"
