"""The answer of `POST /v1/quote`. Amounts are decimal strings in USD, exact."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from ai_proxy_service.core.errors import spend_limit_text
from ai_proxy_service.core.interfaces import Balance
from ai_proxy_service.core.money import scaled_text, usd_text
from ai_proxy_service.core.pricing import LineItem
from ai_proxy_service.core.quoting import Quote, RefusalCode

_EXPONENT_PICO = -12
Usd = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?$")]
_REASONS: Mapping[RefusalCode, str] = {
    "insufficient_quota": "The account's credit does not pay for a useful answer.",
    "account_frozen": "The account is frozen.",
    "account_closed": "The account is closed.",
}


class QuotedPrompt(msgspec.Struct):
    """The prompt's size: `bound` is the most that it can be, `exact` what Gemini counts."""

    bound: int
    exact: int | None


class QuotedItem(msgspec.Struct):
    """One line of the highest cost: so many at the highest price of their kind."""

    kind: str
    quantity: int
    unit: Literal["token", "query", "prompt"]
    unit_price_usd: Usd
    cost_usd: Usd


class QuotedAccount(msgspec.Struct):
    """What the account has; `spendable` is what spend limits allow to be used now.

    The limits are the account's, and those of the issued key that asks.
    """

    available: Usd
    spendable: Usd
    limited_by: Annotated[
        str | None,
        msgspec.Meta(
            description="The limit that allows no more: the account's `day`, `month` or `total`, "
            "the key's `key_day`, `key_month` or `key_total`; null: the credit itself"
        ),
    ]


class QuoteReason(msgspec.Struct):
    """Why a completion would be refused: the code of the error, and a text."""

    code: RefusalCode
    message: str


class QuoteBody(msgspec.Struct):
    """What a chat completion would cost now, and whether it would start.

    `min_cost` is for an answer of one token that looks nothing up; `max_cost` for all that may be
    produced, and is what the `line_items` come to. Both count the prompt as `exact`, where that is
    known, else as `bound`, and no part of it as cached.
    """

    model: Annotated[str, msgspec.Meta(description="Gemini's name of the model that would answer")]
    service_tier: str
    currency: Literal["USD"]
    catalog_version: str
    prompt_tokens: QuotedPrompt
    max_output_tokens: Annotated[
        int, msgspec.Meta(description="What request and model allow for all answers together")
    ]
    affordable_max_output_tokens: Annotated[
        int, msgspec.Meta(description="What a completion that starts now would be limited to")
    ]
    min_cost: Usd
    max_cost: Usd
    line_items: list[QuotedItem]
    account: Annotated[
        QuotedAccount | None, msgspec.Meta(description="Null where nothing is billed")
    ]
    allowed: bool
    reason: QuoteReason | None
    object: Literal["quote"] = "quote"


def quote_body(quote: Quote) -> QuoteBody:
    """Return a quote in the form that clients see."""
    order = quote.order
    return QuoteBody(
        model=order.model,
        service_tier=order.tier,
        currency="USD",
        catalog_version=order.catalog_version,
        prompt_tokens=QuotedPrompt(order.prompt_bound_tokens, quote.exact_tokens),
        max_output_tokens=order.all_output_tokens,
        affordable_max_output_tokens=quote.affordable_tokens,
        min_cost=usd_text(quote.min_nanos),
        max_cost=usd_text(quote.max_nanos),
        line_items=[_item(item) for item in quote.items],
        account=None if quote.balance is None else _account(quote.balance),
        allowed=quote.refusal is None,
        reason=None if quote.refusal is None else _reason(quote.refusal, quote.balance),
    )


def _account(balance: Balance) -> QuotedAccount:
    return QuotedAccount(
        usd_text(balance.available_nanos), usd_text(balance.spendable_nanos), balance.limited_by
    )


def _reason(refusal: RefusalCode, balance: Balance | None) -> QuoteReason:
    limit = None if balance is None else balance.limited_by
    if refusal == "insufficient_quota" and limit is not None:
        return QuoteReason(refusal, f"{spend_limit_text(limit)} does not allow a useful answer.")
    return QuoteReason(refusal, _REASONS[refusal])


def _item(item: LineItem) -> QuotedItem:
    return QuotedItem(
        item.kind,
        item.quantity,
        item.unit,
        scaled_text(item.unit_price_pico, _EXPONENT_PICO),
        scaled_text(item.cost_pico, _EXPONENT_PICO),
    )
