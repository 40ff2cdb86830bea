"""What a usage costs, in integers of pico-USD (1e-12 USD), line by line.

A charge adds its lines exactly and rounds once, up, to a nano-USD (1e-9 USD).

A kind of token has a rate of its own, or the plain one of its direction: `input` covers whatever a
prompt is made of, `output` whatever the catalogue says that the model answers with. Anything else
that Gemini reports all the same has no price. It is never free: it costs the dearest that applies,
and `Cost.unpriced` names it.
"""

from dataclasses import fields
from typing import Any, Literal

import msgspec

from ai_proxy_service.core.usage import STANDARD_TIER, TokenUsage

PICO_PER_NANO = 1_000
# How many queries of one answer are reckoned with before it starts, where each is charged.
# Gemini decides by itself how many it makes; more than this are rare.
LOOKUPS_HELD = 8
# The dearest lookup of Google's price list: 0.035 USD.
LOOKUP_PICO_DEAREST = 35_000_000_000
# How Gemini and its SDKs call the standard tier, or say nothing of one.
_STANDARD_NAMES = frozenset({"", STANDARD_TIER, "default", "service_tier_unspecified"})
# Google sells these at less than the standard price, whatever the model.
_CHEAPER_TIERS = frozenset({"flex", "batch"})
_COUNTS = tuple(field.name for field in fields(TokenUsage))


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Unit prices in pico-USD per token; None where the model has no such price.

    They hold for prompts of more than `above_prompt_tokens` tokens. `output` is 0 for models
    that produce no tokens.
    """

    input: int
    output: int = 0
    above_prompt_tokens: int = 0
    cached_input: int | None = None
    input_audio: int | None = None
    cached_input_audio: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    output_thoughts: int | None = None

    @property
    def worst_input(self) -> int:
        """The price of an input token, whatever the prompt is made of."""
        return max(self.input, self.input_audio or 0)

    @property
    def worst_output(self) -> int:
        """The price of an output token, whatever the model produces."""
        kinds = (self.output, self.output_audio, self.output_image, self.output_thoughts)
        return max(rate or 0 for rate in kinds)

    def by_kind(self) -> dict[str, int]:
        """Return the unit prices that there are, by their names."""
        return {
            kind: rate
            for kind, rate in msgspec.structs.asdict(self).items()
            if kind != "above_prompt_tokens" and rate is not None
        }


Modality = Literal["text", "image", "audio"]


class ModelPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model that may be served: its limits, and its rates by size of the prompt.

    `search_query` and `maps_query` are what a lookup in Google Search or Maps costs, in
    pico-USD each; None where the model can't make any, which then costs `unpriced_lookup` if
    it does. `search_unit` tells whether each different query is charged, or each prompt that
    made some. `tiers` has the rates of service tiers other than the standard one.
    """

    context_tokens: int
    rates: list[Rates]
    max_output_tokens: int = 0
    retired: bool = False
    kind: Literal["chat", "embedding"] = "chat"
    output_modalities: tuple[Modality, ...] = ("text",)
    search_query: int | None = None
    maps_query: int | None = None
    unpriced_lookup: int = LOOKUP_PICO_DEAREST
    search_unit: Literal["query", "prompt"] = "query"
    tiers: dict[str, list[Rates]] = {}

    def rates_for(self, prompt_tokens: int, tier: str = STANDARD_TIER) -> Rates:
        """Return the rates for a prompt of this size; an unpriced tier has the standard ones."""
        choice = self.tiers.get(tier, self.rates)
        found = choice[0]
        for rates in choice:
            if prompt_tokens > rates.above_prompt_tokens >= found.above_prompt_tokens:
                found = rates
        return found

    @property
    def can_search(self) -> bool:
        """Whether answers may be grounded in Google Search: what it costs is known."""
        return self.search_query is not None

    @property
    def can_use_maps(self) -> bool:
        """Whether answers may be grounded in Google Maps: what it costs is known."""
        return self.maps_query is not None

    def lookups_bound_pico(self, *, search: bool, maps: bool) -> int:
        """Return what lookups are reckoned to cost at most, in pico-USD, with these tools."""
        each_pico = (self.search_query or 0) * search + (self.maps_query or 0) * maps
        return each_pico * (LOOKUPS_HELD if self.search_unit == "query" else 1)


class LineItem(msgspec.Struct, frozen=True):
    """One line of a cost: so many of a kind at a unit price.

    Attributes:
        kind: what; tokens of a kind that has no name here are ``input_other``, ``output_other``.
        quantity: how many, never 0.
        unit_price_pico: what one costs, in pico-USD.
        unit: what is counted: a token, a query, or a prompt that made queries.
    """

    kind: str
    quantity: int
    unit_price_pico: int
    unit: Literal["token", "query", "prompt"] = "token"

    @property
    def cost_pico(self) -> int:
        """The cost of this line, in pico-USD."""
        return self.quantity * self.unit_price_pico


class Cost(msgspec.Struct, frozen=True):
    """What a usage costs, and from which unit prices that follows.

    Attributes:
        items: the lines that it is the sum of.
        exact_pico: that sum, in pico-USD.
        rates: the unit prices used.
        tier: the service tier that the rates are of.
        unpriced: what has no price, and costs the dearest that applies: kinds, ``service_tier``.
    """

    items: tuple[LineItem, ...]
    exact_pico: int
    rates: Rates
    tier: str = STANDARD_TIER
    unpriced: tuple[str, ...] = ()

    @property
    def amount_nanos(self) -> int:
        """The charge in nano-USD, rounded up."""
        return nanos_of(self.exact_pico)

    def as_price(self, model: str, catalog_version: str) -> dict[str, Any]:
        """Return the record of prices that is stored with the charge."""
        price: dict[str, Any] = {
            "model": model,
            "catalog_version": catalog_version,
            "unit": "pico-USD per token",
            "unit_prices": self.rates.by_kind(),
            "above_prompt_tokens": self.rates.above_prompt_tokens,
            "exact_cost_pico": str(self.exact_pico),
        }
        if self.tier != STANDARD_TIER:
            price["service_tier"] = self.tier
        lookups = [
            {"where": item.kind, "count": item.quantity, "each_pico": item.unit_price_pico}
            for item in self.items
            if item.unit != "token"
        ]
        if lookups:
            price["lookups"] = lookups
        if self.unpriced:
            price["unpriced"] = list(self.unpriced)
        return price


def cost_of(usage: TokenUsage, price: ModelPrice) -> Cost:
    """Price a usage; see the module for what has no price."""
    tier = usage.service_tier
    if tier in price.tiers:
        return _cost_at(usage, price, tier)
    if tier in _STANDARD_NAMES:
        return _cost_at(usage, price, STANDARD_TIER)
    tiers = [STANDARD_TIER] if tier in _CHEAPER_TIERS else [STANDARD_TIER, *price.tiers]
    costs = [_cost_at(usage, price, each) for each in tiers]
    dearest = max(costs, key=lambda cost: cost.exact_pico)
    return msgspec.structs.replace(dearest, unpriced=("service_tier", *dearest.unpriced))


def _cost_at(usage: TokenUsage, price: ModelPrice, tier: str) -> Cost:
    rates = price.rates_for(usage.input_tokens, tier)
    items: list[LineItem] = []
    unpriced: list[str] = []
    _add_input(items, unpriced, usage, rates)
    _add_output(items, unpriced, usage, price, rates)
    if usage.search_queries or usage.maps_queries:
        _add_lookups(items, unpriced, usage, price)
    exact_pico = sum([item.quantity * item.unit_price_pico for item in items])
    return Cost(tuple(items), exact_pico, rates, tier, tuple(unpriced))


def _add_input(items: list[LineItem], unpriced: list[str], usage: TokenUsage, rates: Rates) -> None:
    plain = usage.input_tokens
    if usage.prompt_audio_tokens or usage.prompt_other_tokens:
        plain -= usage.prompt_audio_tokens + usage.prompt_other_tokens
        _add_input_audio(items, usage, rates)
    if usage.prompt_other_tokens:
        items.append(LineItem("input_other", usage.prompt_other_tokens, rates.worst_input))
        unpriced.append("input_other")
    # Where cached tokens and sound overlap without Gemini telling how far, the dearer one counts.
    cached = min(plain, usage.cached_tokens - usage.cached_audio_tokens)
    if plain > cached:
        items.append(LineItem("input", plain - cached, rates.input))
    if cached:
        items.append(LineItem("cached_input", cached, _or(rates.cached_input, rates.input)))


def _add_input_audio(items: list[LineItem], usage: TokenUsage, rates: Rates) -> None:
    cached = usage.cached_audio_tokens
    audio_pico = _or(rates.input_audio, rates.input)
    if usage.prompt_audio_tokens > cached:
        items.append(LineItem("input_audio", usage.prompt_audio_tokens - cached, audio_pico))
    if cached:
        # Where sound costs what text costs, cached sound costs what cached text does.
        plain_pico = _or(rates.input_audio, _or(rates.cached_input, rates.input))
        cached_pico = _or(rates.cached_input_audio, plain_pico)
        items.append(LineItem("cached_input_audio", cached, cached_pico))


def _add_output(
    items: list[LineItem],
    unpriced: list[str],
    usage: TokenUsage,
    price: ModelPrice,
    rates: Rates,
) -> None:
    audio, images = usage.output_audio_tokens, usage.output_image_tokens
    other = usage.output_other_tokens
    plain = usage.candidates_tokens - audio - images - other
    if plain:
        items.append(LineItem("output", plain, rates.output))
    if usage.thoughts_tokens:
        thinking_pico = _or(rates.output_thoughts, rates.output)
        items.append(LineItem("thinking", usage.thoughts_tokens, thinking_pico))
    if not (audio or images or other):
        return
    can = price.output_modalities
    for kind, tokens, own_pico, is_offered in (
        ("output_audio", audio, rates.output_audio, "audio" in can),
        ("output_image", images, rates.output_image, "image" in can),
        ("output_other", other, None, False),
    ):
        if not tokens:
            continue
        each_pico = _or(own_pico, rates.output)
        if own_pico is None and not is_offered:
            unpriced.append(kind)
            each_pico = rates.worst_output
        items.append(LineItem(kind, tokens, each_pico))


def _add_lookups(
    items: list[LineItem], unpriced: list[str], usage: TokenUsage, price: ModelPrice
) -> None:
    for where, queries, each_pico in (
        ("search", usage.search_queries, price.search_query),
        ("maps", usage.maps_queries, price.maps_query),
    ):
        if not queries:
            continue
        if each_pico is None:
            unpriced.append(where)
            items.append(LineItem(where, queries, price.unpriced_lookup, "query"))
        elif price.search_unit == "query":
            items.append(LineItem(where, queries, each_pico, "query"))
        else:
            items.append(LineItem(where, 1, each_pico, "prompt"))


def _or(rate: int | None, plain: int) -> int:
    return plain if rate is None else rate


def nanos_of(pico: int) -> int:
    """Round pico-USD up to nano-USD."""
    return -(-pico // PICO_PER_NANO)


def usage_record(usage: TokenUsage) -> dict[str, int]:
    """Return the counts that are stored with a charge, without those that are zero."""
    counts = ((name, getattr(usage, name)) for name in _COUNTS)
    return {name: count for name, count in counts if count and isinstance(count, int)}
