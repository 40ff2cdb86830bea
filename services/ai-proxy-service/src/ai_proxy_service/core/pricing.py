"""Prices, as integers of pico-USD (1e-12 USD), and what a usage costs.

A charge adds its components exactly and rounds once, up, to a nano-USD (1e-9 USD).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec

from ai_proxy_service.core.usage import STANDARD_TIER, TokenUsage

PICO_PER_NANO = 1_000
# List prices run from 0.01 to some hundred USD per million tokens. A price typed per million
# instead of per token, or in another unit, lies far outside these bounds.
RATE_PICO_MIN = 100
RATE_PICO_MAX = 1_000_000_000
# Lookups are listed at 0.014 to 0.035 USD each. One typed per thousand lies outside.
LOOKUP_PICO_MIN = 100_000_000
LOOKUP_PICO_MAX = 1_000_000_000_000
# How many queries of one answer are reckoned with before it starts, where each is charged.
# Gemini decides by itself how many it makes; more than this are rare.
LOOKUPS_HELD = 8
TIERS = frozenset({"flex", "priority"})


class PriceCatalogError(ValueError):
    """The price catalogue can't be used; the message says where and why."""


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
        return max(
            self.output,
            self.output_audio or 0,
            self.output_image or 0,
            self.output_thoughts or 0,
        )


Modality = Literal["text", "image", "audio"]


class ModelPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model that may be served: its limits, and its rates by size of the prompt.

    `search_query` and `maps_query` are what a lookup in Google Search or Maps costs, in
    pico-USD each; None where the model can't make any. `search_unit` tells whether each
    different query is charged, or each prompt that made some. `tiers` has the rates of
    service tiers other than the standard one.
    """

    context_tokens: int
    rates: list[Rates]
    max_output_tokens: int = 0
    retired: bool = False
    kind: Literal["chat", "embedding"] = "chat"
    output_modalities: tuple[Modality, ...] = ("text",)
    search_query: int | None = None
    maps_query: int | None = None
    search_unit: Literal["query", "prompt"] = "query"
    tiers: dict[str, list[Rates]] = {}

    def rates_for(self, prompt_tokens: int, tier: str = STANDARD_TIER) -> Rates:
        """Return the rates for a prompt of this size; an unpriced tier has the standard ones."""
        choice = self.tiers.get(tier, self.rates)
        return max(
            (rates for rates in choice if prompt_tokens > rates.above_prompt_tokens),
            key=lambda rates: rates.above_prompt_tokens,
            default=choice[0],
        )

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


class PriceCatalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models that can be served, with a version that each charge names."""

    version: str
    effective: date
    source: str
    models: dict[str, ModelPrice]

    def find(self, model: str) -> ModelPrice | None:
        """Return the price of a model, or None: such a model is never served."""
        return self.models.get(model)


@dataclass(frozen=True, slots=True)
class Lookups:
    """Lookups that are charged.

    Attributes:
        where: ``search`` or ``maps``.
        count: how many are charged.
        each_pico: what one costs, in pico-USD.
    """

    where: str
    count: int
    each_pico: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a usage costs, and from which unit prices that follows.

    Attributes:
        exact_pico: the exact sum, in pico-USD.
        amount_nanos: the charge in nano-USD, rounded up.
        rates: the unit prices used.
        lookups: what is charged besides tokens.
        tier: the service tier that the rates are of.
    """

    exact_pico: int
    amount_nanos: int
    rates: Rates
    lookups: tuple[Lookups, ...] = ()
    tier: str = STANDARD_TIER

    def as_price(self, model: str, catalog_version: str) -> dict[str, Any]:
        """Return the record of prices that is stored with the charge."""
        price: dict[str, Any] = {
            "model": model,
            "catalog_version": catalog_version,
            "unit": "pico-USD per token",
            "unit_prices": _rates_by_kind(self.rates),
            "above_prompt_tokens": self.rates.above_prompt_tokens,
            "exact_cost_pico": str(self.exact_pico),
        }
        if self.tier != STANDARD_TIER:
            price["service_tier"] = self.tier
        if self.lookups:
            price["lookups"] = [asdict(lookups) for lookups in self.lookups]
        return price


def cost_of(usage: TokenUsage, price: ModelPrice) -> Cost:
    """Price a usage. Tokens of a kind without a price of its own have the plain one's."""
    tier = usage.service_tier if usage.service_tier in price.tiers else STANDARD_TIER
    rates = price.rates_for(usage.input_tokens, tier)
    lookups = tuple(_lookups(usage, price))
    exact_pico = (
        _input_pico(usage, rates)
        + _output_pico(usage, rates)
        + sum(item.count * item.each_pico for item in lookups)
    )
    return Cost(exact_pico, nanos_of(exact_pico), rates, lookups, tier)


def _input_pico(usage: TokenUsage, rates: Rates) -> int:
    plain_cached = usage.cached_tokens - usage.cached_audio_tokens
    fresh_audio = usage.prompt_audio_tokens - usage.cached_audio_tokens
    fresh_plain = max(0, usage.input_tokens - usage.cached_tokens - fresh_audio)
    cached = _or_plain(rates.cached_input, rates.input)
    # Where audio costs what text costs, cached audio costs what cached text does.
    cached_audio = _or_plain(rates.cached_input_audio, _or_plain(rates.input_audio, cached))
    return (
        fresh_plain * rates.input
        + fresh_audio * _or_plain(rates.input_audio, rates.input)
        + plain_cached * cached
        + usage.cached_audio_tokens * cached_audio
    )


def _output_pico(usage: TokenUsage, rates: Rates) -> int:
    plain = usage.candidates_tokens - usage.output_audio_tokens - usage.output_image_tokens
    return (
        plain * rates.output
        + usage.output_audio_tokens * _or_plain(rates.output_audio, rates.output)
        + usage.output_image_tokens * _or_plain(rates.output_image, rates.output)
        + usage.thoughts_tokens * _or_plain(rates.output_thoughts, rates.output)
    )


def _lookups(usage: TokenUsage, price: ModelPrice) -> Iterator[Lookups]:
    for where, queries, each_pico in (
        ("search", usage.search_queries, price.search_query),
        ("maps", usage.maps_queries, price.maps_query),
    ):
        if queries and each_pico is not None:
            yield Lookups(where, queries if price.search_unit == "query" else 1, each_pico)


def _or_plain(rate: int | None, plain: int) -> int:
    return plain if rate is None else rate


def nanos_of(pico: int) -> int:
    """Round pico-USD up to nano-USD."""
    return -(-pico // PICO_PER_NANO)


def usage_record(usage: TokenUsage) -> dict[str, int]:
    """Return the counts that are stored with a charge, without those that are zero."""
    return {
        name: count for name, count in asdict(usage).items() if count and isinstance(count, int)
    }


def load_catalog(path: Path, markup: Decimal) -> PriceCatalog:
    """Read a price catalogue, check it, and apply the operator's mark-up to every price.

    Raises:
        PriceCatalogError: unreadable, not of the documented form, or a price out of bounds.
    """
    try:
        catalog = msgspec.json.decode(path.read_bytes(), type=PriceCatalog)
    except OSError as error:
        raise PriceCatalogError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise PriceCatalogError(f"{path}: {error}") from error
    if not catalog.models:
        raise PriceCatalogError(f"{path}: no model in it")
    for name, price in catalog.models.items():
        _check(name, price)
    models = {name: _marked_up(price, markup) for name, price in catalog.models.items()}
    return msgspec.structs.replace(catalog, models=models)


def _check(name: str, price: ModelPrice) -> None:
    embeds = price.kind == "embedding"
    if price.context_tokens < 1 or (price.max_output_tokens < 1 and not embeds):
        raise PriceCatalogError(f"{name}: token limits must be positive")
    if not price.tiers.keys() <= TIERS:
        raise PriceCatalogError(f"{name}: known tiers are {', '.join(sorted(TIERS))}")
    for tier_rates in (price.rates, *price.tiers.values()):
        if not tier_rates or tier_rates[0].above_prompt_tokens != 0:
            raise PriceCatalogError(f"{name}: its first rates must hold from 0 prompt tokens on")
        for rates in tier_rates:
            _check_rates(name, rates, free_output=embeds)
    for each_pico in (price.search_query, price.maps_query):
        if each_pico is not None and not LOOKUP_PICO_MIN <= each_pico <= LOOKUP_PICO_MAX:
            raise PriceCatalogError(
                f"{name}: {each_pico} pico-USD for a lookup can't be right; accepted are "
                f"{LOOKUP_PICO_MIN} to {LOOKUP_PICO_MAX}"
            )


def _check_rates(name: str, rates: Rates, *, free_output: bool) -> None:
    for kind, rate in _rates_by_kind(rates).items():
        free = free_output and kind == "output" and rate == 0
        if not free and not RATE_PICO_MIN <= rate <= RATE_PICO_MAX:
            raise PriceCatalogError(
                f"{name}: {kind} = {rate} pico-USD per token, which is "
                f"{Decimal(rate) / 1_000_000} USD per million tokens, can't be right; accepted "
                f"are {RATE_PICO_MIN} to {RATE_PICO_MAX}"
            )


def _rates_by_kind(rates: Rates) -> dict[str, int]:
    return {
        kind: rate
        for kind, rate in msgspec.structs.asdict(rates).items()
        if kind != "above_prompt_tokens" and rate is not None
    }


def _marked_up(price: ModelPrice, markup: Decimal) -> ModelPrice:
    def raised(pico: int) -> int:
        # Rounded up to whole pico-USD, so that a charge is a sum of counts x stored unit price.
        return int((pico * markup).to_integral_value(ROUND_CEILING))

    def raised_rates(some: list[Rates]) -> list[Rates]:
        return [
            msgspec.structs.replace(
                rates, **{kind: raised(rate) for kind, rate in _rates_by_kind(rates).items()}
            )
            for rates in some
        ]

    return msgspec.structs.replace(
        price,
        rates=raised_rates(price.rates),
        tiers={tier: raised_rates(rates) for tier, rates in price.tiers.items()},
        search_query=None if price.search_query is None else raised(price.search_query),
        maps_query=None if price.maps_query is None else raised(price.maps_query),
    )
