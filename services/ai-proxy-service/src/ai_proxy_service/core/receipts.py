"""Receipts: what an answer cost, line by line, so that anybody can recompute the charge."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from ai_proxy_service.core.moments import MICROS_PER_SECOND
from ai_proxy_service.core.money import scaled_text, usd_text
from ai_proxy_service.core.order import answer_id_of
from ai_proxy_service.core.pricing import PICO_PER_NANO, LineItem
from ai_proxy_service.core.settlement import ChargeStatus
from ai_proxy_service.core.usage_log import ChargeRecord

Usd = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?$")]
# What an answer with several charges is: what most needs to be known of them.
_BY_WEIGHT: tuple[ChargeStatus, ...] = ("refused", "pending", "not_billed", "charged", "free")
_EXPONENT_PICO = -12


class ReceiptItem(msgspec.Struct):
    """One line of a cost: so many of a kind at a unit price."""

    kind: str
    quantity: int
    unit: Literal["token", "query", "prompt"]
    unit_price_usd: Usd
    cost_usd: Usd


class ReceiptCharge(msgspec.Struct):
    """One charge of an answer.

    `exact_cost_usd` is the sum of the line items, and `amount` is that and `rounding_usd`: rounded
    up to 9 digits, once. `charged` is what was taken from the account, and `shortfall` what it
    could not pay. `estimated` says that the usage may not cover all that was produced.
    `transaction_id` is the charge in the account's statement.
    """

    completion_id: str
    attempt: int
    status: ChargeStatus
    estimated: bool
    model: str
    service_tier: str
    catalog_version: str
    usage: dict[str, int]
    line_items: list[ReceiptItem]
    exact_cost_usd: Usd
    rounding_usd: Usd
    amount: Usd
    charged: Usd
    shortfall: Usd
    hold_id: str | None
    transaction_id: str | None


class Receipt(msgspec.Struct, tag="receipt", tag_field="object"):
    """What an answer cost. Amounts are decimal strings in USD, exact.

    It has a charge for each attempt (of two, the first could not be used), and for each of several
    prompts. `cost`, `charged` and `shortfall` are the sums of theirs. `status` tells what became of
    them: `charged`; `pending`, to be charged as soon as the credits service can be reached;
    `free`; `refused` for good by the credits service; or `not_billed`, as there is none.
    """

    id: str
    request_id: str
    account: str
    key: str
    model: str
    created: int
    status: ChargeStatus
    currency: Literal["USD"]
    cost: Usd
    charged: Usd
    shortfall: Usd
    charges: list[ReceiptCharge]


def receipt_of(records: Sequence[ChargeRecord]) -> Receipt:
    """Return the receipt of an answer, from its charges: one at least."""
    in_order = sorted(records, key=lambda record: (record.started_at_micros, record.attempt))
    first = in_order[0]
    statuses = {record.status for record in in_order}
    return Receipt(
        id=answer_id_of(first.completion_id),
        request_id=first.request_id,
        account=first.account,
        key=first.key_name,
        model=first.model,
        created=first.started_at_micros // MICROS_PER_SECOND,
        status=next(status for status in _BY_WEIGHT if status in statuses),
        currency="USD",
        cost=usd_text(sum(record.amount_nanos for record in in_order)),
        charged=usd_text(sum(record.charged_nanos for record in in_order)),
        shortfall=usd_text(sum(record.shortfall_nanos for record in in_order)),
        charges=[_charge(record) for record in in_order],
    )


def _charge(record: ChargeRecord) -> ReceiptCharge:
    rounding_pico = record.amount_nanos * PICO_PER_NANO - record.exact_cost_pico
    return ReceiptCharge(
        completion_id=record.completion_id,
        attempt=record.attempt,
        status=record.status,
        estimated=record.estimated,
        model=record.model,
        service_tier=record.service_tier,
        catalog_version=record.catalog_version,
        usage=record.usage,
        line_items=[_item(item) for item in record.items],
        exact_cost_usd=_pico_text(record.exact_cost_pico),
        rounding_usd=_pico_text(rounding_pico),
        amount=usd_text(record.amount_nanos),
        charged=usd_text(record.charged_nanos),
        shortfall=usd_text(record.shortfall_nanos),
        hold_id=record.hold_id,
        transaction_id=record.transaction_id,
    )


def _item(item: LineItem) -> ReceiptItem:
    return ReceiptItem(
        kind=item.kind,
        quantity=item.quantity,
        unit=item.unit,
        unit_price_usd=_pico_text(item.unit_price_pico),
        cost_usd=_pico_text(item.cost_pico),
    )


def _pico_text(pico: int) -> str:
    return scaled_text(pico, _EXPONENT_PICO)
