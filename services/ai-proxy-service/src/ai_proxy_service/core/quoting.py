"""What a request would cost, and whether its account could pay, without holding anything."""

from dataclasses import dataclass
from typing import Literal

from ai_proxy_service.core.authorisation import Estimate, HoldPolicy, hold_nanos
from ai_proxy_service.core.authoriser import estimate_order, is_hopeless
from ai_proxy_service.core.errors import (
    AccountClosedError,
    InsufficientCreditError,
    spend_limit_text,
)
from ai_proxy_service.core.interfaces import Balance, BillingService, GeminiClient
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.pricing import LineItem, nanos_of

RefusalCode = Literal["insufficient_quota", "account_frozen", "account_closed"]


@dataclass(frozen=True, slots=True)
class Quote:
    """The costs of an order, as it would be authorised now.

    Attributes:
        order: what was asked for.
        exact_tokens: the prompt as Gemini counts it; None where it was not asked.
        items: what the order costs at most, line by line.
        min_nanos: the charge for an answer of one token that looks nothing up, in nano-USD.
        max_nanos: the charge for `items`, in nano-USD.
        affordable_tokens: the most output that the account could pay for.
        balance: what the account has; None where nothing is enforced.
        refusal: the code of the error that a completion would get; None if it would start.
    """

    order: Order
    exact_tokens: int | None
    items: tuple[LineItem, ...]
    min_nanos: int
    max_nanos: int
    affordable_tokens: int
    balance: Balance | None
    refusal: RefusalCode | None


class Quoter:
    """Answers what the authoriser would do with an order."""

    def __init__(
        self, *, gemini: GeminiClient, billing: BillingService, policy: HoldPolicy
    ) -> None:
        self._gemini = gemini
        self._billing = billing
        self._policy = policy

    async def quote(self, order: Order, *, count: bool) -> Quote:
        """Work out the costs of an order.

        Args:
            order: what would be completed.
            count: have Gemini count the prompt, also where its bound is enough to go by.

        Raises:
            BillingUnavailableError: not known what the account has.
            GeminiError: the prompt had to be counted, and could not be.
        """
        balance = await self._billing.balance(order.account, order.key_id)
        cost = estimate_order(order, order.prompt_bound_tokens)
        exact_tokens = None
        if count or (balance is not None and self._is_thin(order, cost, balance)):
            exact_tokens = await self._gemini.count_tokens(order.model, order.body)
            cost = estimate_order(order, min(exact_tokens, cost.prompt_tokens))
        return _quote(order, cost, balance, exact_tokens)

    async def ensure_spendable(self, account: str, key_id: str | None) -> None:
        """Make sure that an account has anything to spend, before costly work is done for it.

        Raises:
            AccountClosedError: it may not be used.
            InsufficientCreditError: it can spend nothing now.
            BillingUnavailableError: not known what it has.
        """
        balance = await self._billing.balance(account, key_id)
        if balance is None:
            return
        if balance.status != "open":
            raise AccountClosedError(f"account_{balance.status}")
        if balance.spendable_nanos <= 0:
            limit = balance.limited_by
            reason = (
                "Your credit is used up"
                if limit is None
                else f"{spend_limit_text(limit)} is reached"
            )
            raise InsufficientCreditError(
                f"{reason}, or reserved by requests that are still running. Files are fetched by "
                "URL only while there is something to pay for them with.",
                available_nanos=0,
                limit=limit,
            )

    def _is_thin(self, order: Order, cost: Estimate, balance: Balance) -> bool:
        """Whether the bound can't be held, and only an exact count can tell more."""
        available_nanos = balance.spendable_nanos
        if balance.status != "open" or is_hopeless(order, available_nanos):
            return False
        return available_nanos < hold_nanos(self._policy, cost, available_nanos)


def _quote(
    order: Order, cost: Estimate, balance: Balance | None, exact_tokens: int | None
) -> Quote:
    prompt = LineItem("input", cost.prompt_tokens, cost.input_pico)
    output = LineItem("output", cost.max_output_tokens, cost.output_pico)
    items = [prompt, output]
    if cost.lookups_pico:
        items.append(_lookups(order, cost.lookups_pico))
    return Quote(
        order=order,
        exact_tokens=exact_tokens,
        items=tuple(items),
        min_nanos=nanos_of(prompt.cost_pico + output.unit_price_pico),
        max_nanos=nanos_of(sum(item.cost_pico for item in items)),
        affordable_tokens=(
            cost.max_output_tokens
            if balance is None
            else cost.output_tokens_for(balance.spendable_nanos)
        ),
        balance=balance,
        refusal=_refusal(cost, balance),
    )


def _lookups(order: Order, lookups_pico: int) -> LineItem:
    each_pico = order.price.search_query or lookups_pico
    return LineItem("search", lookups_pico // each_pico, each_pico, order.price.search_unit)


def _refusal(cost: Estimate, balance: Balance | None) -> RefusalCode | None:
    if balance is None:
        return None
    if balance.status == "frozen":
        return "account_frozen"
    if balance.status == "closed":
        return "account_closed"
    return None if balance.spendable_nanos >= cost.floor_nanos else "insufficient_quota"
