"""Prices, as integers of pico-USD (1e-12 USD) per token, and what a usage costs.

A charge adds its components exactly and rounds once, up, to a nano-USD (1e-9 USD).
"""

from dataclasses import asdict, dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import msgspec

from ai_proxy_service.core.usage import TokenUsage

PICO_PER_NANO = 1_000
# List prices run from 0.01 to some tens of USD per million tokens. A price typed per million
# instead of per token, or in another unit, lies far outside these bounds.
RATE_PICO_MIN = 100
RATE_PICO_MAX = 1_000_000_000


class PriceCatalogError(ValueError):
    """The price catalogue can't be used; the message says where and why."""


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Unit prices in pico-USD per token; None where the model has no such price.

    They hold for prompts of more than `above_prompt_tokens` tokens.
    """

    input: int
    output: int
    above_prompt_tokens: int = 0
    cached_input: int | None = None
    input_audio: int | None = None
    cached_input_audio: int | None = None
    output_audio: int | None = None


class ModelPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model that may be served: its limits, and its rates by size of the prompt."""

    context_tokens: int
    max_output_tokens: int
    rates: list[Rates]
    retired: bool = False

    def rates_for(self, prompt_tokens: int) -> Rates:
        """Return the rates of the tier that a prompt of this size falls in."""
        return max(
            (rates for rates in self.rates if prompt_tokens > rates.above_prompt_tokens),
            key=lambda rates: rates.above_prompt_tokens,
            default=self.rates[0],
        )


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
class Cost:
    """What a usage costs, and from which unit prices that follows.

    Attributes:
        exact_pico: the exact sum, in pico-USD.
        amount_nanos: the charge in nano-USD, rounded up.
        rates: the unit prices used.
    """

    exact_pico: int
    amount_nanos: int
    rates: Rates

    def as_price(self, model: str, catalog_version: str) -> dict[str, Any]:
        """Return the record of prices that is stored with the charge."""
        return {
            "model": model,
            "catalog_version": catalog_version,
            "unit": "pico-USD per token",
            "unit_prices": _rates_by_kind(self.rates),
            "above_prompt_tokens": self.rates.above_prompt_tokens,
            "exact_cost_pico": str(self.exact_pico),
        }


def cost_of(usage: TokenUsage, price: ModelPrice) -> Cost:
    """Price a usage. Tokens of a kind without a price of its own have the plain one's."""
    rates = price.rates_for(usage.input_tokens)
    plain_cached = usage.cached_tokens - usage.cached_audio_tokens
    fresh_audio = usage.prompt_audio_tokens - usage.cached_audio_tokens
    fresh_plain = max(0, usage.input_tokens - usage.cached_tokens - fresh_audio)
    exact_pico = (
        fresh_plain * rates.input
        + _priced(fresh_audio, rates.input_audio, rates.input)
        + _priced(plain_cached, rates.cached_input, rates.input)
        + _priced(
            usage.cached_audio_tokens, rates.cached_input_audio, rates.input_audio or rates.input
        )
        + (usage.output_tokens - usage.output_audio_tokens) * rates.output
        + _priced(usage.output_audio_tokens, rates.output_audio, rates.output)
    )
    return Cost(exact_pico, nanos_of(exact_pico), rates)


def _priced(tokens: int, rate: int | None, otherwise: int) -> int:
    return tokens * (otherwise if rate is None else rate)


def nanos_of(pico: int) -> int:
    """Round pico-USD up to nano-USD."""
    return -(-pico // PICO_PER_NANO)


def usage_record(usage: TokenUsage) -> dict[str, int]:
    """Return the counts that are stored with a charge, without those that are zero."""
    return {name: count for name, count in asdict(usage).items() if count}


def load_catalog(path: Path, markup: Decimal) -> PriceCatalog:
    """Read a price catalogue, check it, and apply the operator's mark-up to every rate.

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
    models = {name: _checked(name, price, markup) for name, price in catalog.models.items()}
    return msgspec.structs.replace(catalog, models=models)


def _checked(name: str, price: ModelPrice, markup: Decimal) -> ModelPrice:
    if not price.rates or price.rates[0].above_prompt_tokens != 0:
        raise PriceCatalogError(f"{name}: its first rates must hold from 0 prompt tokens on")
    if price.max_output_tokens < 1 or price.context_tokens < 1:
        raise PriceCatalogError(f"{name}: token limits must be positive")
    for rates in price.rates:
        for kind, rate in _rates_by_kind(rates).items():
            if not RATE_PICO_MIN <= rate <= RATE_PICO_MAX:
                raise PriceCatalogError(
                    f"{name}: {kind} = {rate} pico-USD per token, which is "
                    f"{Decimal(rate) / 1_000_000} USD per million tokens, can't be right; accepted "
                    f"are {RATE_PICO_MIN} to {RATE_PICO_MAX}"
                )
    marked_up = [_marked_up(rates, markup) for rates in price.rates]
    return msgspec.structs.replace(price, rates=marked_up)


def _rates_by_kind(rates: Rates) -> dict[str, int]:
    return {
        kind: rate
        for kind, rate in msgspec.structs.asdict(rates).items()
        if kind != "above_prompt_tokens" and rate is not None
    }


def _marked_up(rates: Rates, markup: Decimal) -> Rates:
    # Rounded up to a whole pico-USD, so that a charge is a sum of tokens x stored unit price.
    changed = {
        kind: int((rate * markup).to_integral_value(ROUND_CEILING))
        for kind, rate in _rates_by_kind(rates).items()
    }
    return msgspec.structs.replace(rates, **changed)
