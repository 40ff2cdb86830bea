"""`ai-proxy-service prices`: the price catalogue, as it is sold or as a file has it."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_proxy_service.cli import output
from ai_proxy_service.cli.output import CommandError
from ai_proxy_service.core.models import parse_aliases, resolve_model
from ai_proxy_service.core.money import scaled_text
from ai_proxy_service.core.price_catalog import PriceCatalog, PriceCatalogError, load_catalog
from ai_proxy_service.core.pricing import ModelPrice, Rates
from ai_proxy_service.core.usage import STANDARD_TIER
from ai_proxy_service.settings import PriceSettings
from service_kit.settings import load_settings

# Of the table, in its order: what each kind of token is called.
_TOKENS = {
    "input": "input",
    "cached_input": "cached",
    "input_audio": "audio in",
    "cached_input_audio": "cached audio",
    "output": "output",
    "output_thoughts": "thinking",
    "output_audio": "audio out",
    "output_image": "image out",
}
_LOOKUPS = {"search_query": "search", "maps_query": "maps"}


def prices(
    *,
    model: Annotated[
        str | None, typer.Option(help="Only this one, by Gemini's name or another that is served.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only say whether this catalogue could be used."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For scripts: one JSON document on standard output.")
    ] = False,
) -> None:
    """Show the prices that are charged, mark-up included, in USD."""
    settings = load_settings(PriceSettings)
    path = check or settings.price_catalog_path
    try:
        catalog = load_catalog(path, settings.price_markup)
    except PriceCatalogError as error:
        raise CommandError(f"The price catalogue can't be used: {error}") from error
    if check is not None:
        _say_usable(path, catalog, as_json=as_json)
        return
    models = catalog.models if model is None else _only(catalog, model, settings)
    if as_json:
        output.document({**_head(catalog, settings.price_markup, path), "models": _listed(models)})
    else:
        _show(catalog, settings.price_markup, path, models)


def _only(catalog: PriceCatalog, model: str, settings: PriceSettings) -> dict[str, ModelPrice]:
    name = resolve_model(model, parse_aliases(settings.model_aliases))
    price = catalog.find(name)
    if price is None:
        raise CommandError(f"The catalogue {catalog.version} has no model '{model}'.")
    return {name: price}


def _say_usable(path: Path, catalog: PriceCatalog, *, as_json: bool) -> None:
    if as_json:
        facts = {"file": str(path), "version": catalog.version, "models": len(catalog.models)}
        output.document({"usable": True, **facts})
    else:
        output.line(f"{path} can be used: version {catalog.version}, {len(catalog.models)} models.")


def _head(catalog: PriceCatalog, markup: Decimal, path: Path) -> dict[str, Any]:
    return {
        "version": catalog.version,
        "effective": catalog.effective,
        "source": catalog.source,
        "file": str(path),
        "markup": format(markup, "f"),
        "currency": "USD",
        "unit": "USD per million tokens; lookups: USD each",
    }


@dataclass(frozen=True, slots=True)
class _Row:
    """One set of rates of a model."""

    tier: str
    rates: Rates

    def usd_per_million(self) -> dict[str, str]:
        # A pico-USD per token is a millionth of a USD per million tokens.
        return {kind: scaled_text(rate, -6) for kind, rate in self.rates.by_kind().items()}


def _rows(price: ModelPrice) -> Iterator[_Row]:
    for tier, some in ((STANDARD_TIER, price.rates), *price.tiers.items()):
        for rates in some:
            yield _Row(tier, rates)


def _lookups(price: ModelPrice) -> dict[str, str]:
    found = {"search_query": price.search_query, "maps_query": price.maps_query}
    return {kind: scaled_text(pico, -12) for kind, pico in found.items() if pico is not None}


def _listed(models: dict[str, ModelPrice]) -> dict[str, Any]:
    return {
        name: {
            "kind": price.kind,
            "retired": price.retired,
            "rates": [
                {
                    "service_tier": row.tier,
                    "above_prompt_tokens": row.rates.above_prompt_tokens,
                    **row.usd_per_million(),
                }
                for row in _rows(price)
            ],
            **({**_lookups(price), "search_unit": price.search_unit} if _lookups(price) else {}),
        }
        for name, price in models.items()
    }


def _show(
    catalog: PriceCatalog, markup: Decimal, path: Path, models: dict[str, ModelPrice]
) -> None:
    output.line(f"Prices {catalog.version}, effective {catalog.effective}, from {path}")
    output.line(f"Source: {catalog.source}")
    output.line(
        f"USD per million tokens, lookups USD each; the mark-up of {markup:f} is in them.\n"
    )
    columns = {"model": "model", "tier": "tier", "prompt": "prompt over"} | _TOKENS | _LOOKUPS
    cells = [_cells(name, price, row) for name, price in models.items() for row in _rows(price)]
    shown = {key: title for key, title in columns.items() if any(row.get(key) for row in cells)}
    output.table(
        list(shown.values()),
        ([row.get(key, "") for key in shown] for row in cells),
        right=frozenset(columns.values()) - {"model", "tier"},
    )


def _cells(name: str, price: ModelPrice, row: _Row) -> dict[str, str]:
    """Return what stands in a row of the table, by column; lookups stand in a model's first."""
    above = row.rates.above_prompt_tokens
    cells = {
        "model": f"{name} (retired)" if price.retired else name,
        "tier": row.tier,
        "prompt": f"{above:,}" if above else "",
        **row.usd_per_million(),
    }
    if row.tier == STANDARD_TIER and not above:
        per = f"/{price.search_unit}"
        cells |= {kind: usd + per for kind, usd in _lookups(price).items()}
    return cells
