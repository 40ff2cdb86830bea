"""Records of the usage log as lines of text, for other programs."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from ai_proxy_service.core.moments import rfc3339
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.usage_log import ChargeRecord

Format = Literal["jsonl", "csv"]

COLUMNS = (
    "completion_id",
    "attempt",
    "billing_key",
    "request_id",
    "account",
    "key",
    "model",
    "service_tier",
    "catalog_version",
    "started_at",
    "ended_at",
    "usage",
    "items",
    "exact_cost_pico",
    "amount",
    "charged",
    "shortfall",
    "estimated",
    "status",
    "hold_id",
    "transaction_id",
)
_encode = msgspec.json.Encoder().encode


def header(form: Format) -> bytes:
    """Return what stands before the first record."""
    return _csv_line(COLUMNS) if form == "csv" else b""


def line(form: Format, record: ChargeRecord) -> bytes:
    """Return a record: an object of JSON, or a row in which objects are JSON."""
    members = _members(record)
    if form == "jsonl":
        return _encode(members) + b"\n"
    return _csv_line(_cell(members[name]) for name in COLUMNS)


def _members(record: ChargeRecord) -> dict[str, Any]:
    return {
        "completion_id": record.completion_id,
        "attempt": record.attempt,
        "billing_key": record.billing_key,
        "request_id": record.request_id,
        "account": record.account,
        "key": record.key_name,
        "model": record.model,
        "service_tier": record.service_tier,
        "catalog_version": record.catalog_version,
        "started_at": rfc3339(record.started_at_micros),
        "ended_at": rfc3339(record.ended_at_micros),
        "usage": record.usage,
        # With all members: LineItem leaves none out.
        "items": record.items,
        # A string: other programs read large numbers as floats.
        "exact_cost_pico": str(record.exact_cost_pico),
        "amount": usd_text(record.amount_nanos),
        "charged": usd_text(record.charged_nanos),
        "shortfall": usd_text(record.shortfall_nanos),
        "estimated": record.estimated,
        "status": record.status,
        "hold_id": record.hold_id,
        "transaction_id": record.transaction_id,
    }


def _cell(value: Any) -> str | int | None:
    plain = value is None or (isinstance(value, str | int) and not isinstance(value, bool))
    return value if plain else _encode(value).decode()


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue().encode()
