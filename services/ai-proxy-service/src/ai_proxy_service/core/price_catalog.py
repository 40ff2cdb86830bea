"""The price catalogue: a file of models and their prices, read, checked and marked up."""

from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import msgspec

from ai_proxy_service.core.pricing import ModelPrice, Rates

# List prices run from 0.01 to some hundred USD per million tokens. A price typed per million
# instead of per token, or in another unit, lies far outside these bounds.
RATE_PICO_MIN = 100
RATE_PICO_MAX = 1_000_000_000
# Lookups are listed at 0.014 to 0.035 USD each. One typed per thousand lies outside.
LOOKUP_PICO_MIN = 100_000_000
LOOKUP_PICO_MAX = 1_000_000_000_000
TIERS = frozenset({"flex", "priority"})


class PriceCatalogError(ValueError):
    """The price catalogue can't be used; the message says where and why."""


class PriceCatalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models that can be served, with a version that each charge names."""

    version: str
    effective: date
    source: str
    models: dict[str, ModelPrice]

    def find(self, model: str) -> ModelPrice | None:
        """Return the price of a model, or None: such a model is never served."""
        return self.models.get(model)


def load_catalog(path: Path, markup: Decimal) -> PriceCatalog:
    """Read a price catalogue, check it, and apply the operator's mark-up to every price.

    Raises:
        PriceCatalogError: unreadable, not of the documented form, or a price out of bounds.
    """
    try:
        catalog = msgspec.json.decode(path.read_bytes(), type=PriceCatalog)
    except OSError as error:
        raise PriceCatalogError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    for each_pico in (price.search_query, price.maps_query, price.unpriced_lookup):
        if each_pico is not None and not LOOKUP_PICO_MIN <= each_pico <= LOOKUP_PICO_MAX:
            raise PriceCatalogError(
                f"{name}: {each_pico} pico-USD for a lookup can't be right; accepted are "
                f"{LOOKUP_PICO_MIN} to {LOOKUP_PICO_MAX}"
            )


def _check_rates(name: str, rates: Rates, *, free_output: bool) -> None:
    for kind, rate in rates.by_kind().items():
        free = free_output and kind == "output" and rate == 0
        if not free and not RATE_PICO_MIN <= rate <= RATE_PICO_MAX:
            raise PriceCatalogError(
                f"{name}: {kind} = {rate} pico-USD per token, which is "
                f"{Decimal(rate) / 1_000_000} USD per million tokens, can't be right; accepted "
                f"are {RATE_PICO_MIN} to {RATE_PICO_MAX}"
            )


def _marked_up(price: ModelPrice, markup: Decimal) -> ModelPrice:
    def raised(pico: int) -> int:
        # Rounded up to whole pico-USD, so that a charge is a sum of counts x stored unit price.
        return int((pico * markup).to_integral_value(ROUND_CEILING))

    def raised_rates(some: list[Rates]) -> list[Rates]:
        return [
            msgspec.structs.replace(
                rates, **{kind: raised(rate) for kind, rate in rates.by_kind().items()}
            )
            for rates in some
        ]

    return msgspec.structs.replace(
        price,
        rates=raised_rates(price.rates),
        tiers={tier: raised_rates(rates) for tier, rates in price.tiers.items()},
        search_query=None if price.search_query is None else raised(price.search_query),
        maps_query=None if price.maps_query is None else raised(price.maps_query),
        unpriced_lookup=raised(price.unpriced_lookup),
    )
