"""Which catalogues are refused, and that the shipped one has the list prices."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.price_catalog import PriceCatalog, PriceCatalogError, load_catalog
from ai_proxy_service.core.pricing import ModelPrice, Rates, cost_of
from ai_proxy_service.core.usage import STANDARD_TIER, TokenUsage
from support.prices import SHIPPED, catalog_file

LIST_PRICES = Path(__file__).parents[3] / "shared" / "data" / "gemini-prices.json"


@pytest.fixture(scope="module")
def catalog() -> PriceCatalog:
    return load_catalog(SHIPPED, Decimal(1))


def test_a_mark_up_raises_every_unit_price(tmp_path: Path) -> None:
    path = catalog_file(
        tmp_path,
        rates=[{"input": 333, "output": 1_000, "output_image": 2_000}],
        tiers={"flex": [{"input": 100, "output": 500}]},
        search_query=14_000_000_000,
        maps_query=25_000_000_000,
    )

    price = load_catalog(path, Decimal("1.5")).models["m"]

    assert price.rates == [Rates(input=500, output=1_500, output_image=3_000)]
    assert price.tiers == {"flex": [Rates(input=150, output=750)]}
    assert (price.search_query, price.maps_query) == (21_000_000_000, 37_500_000_000)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rates": [{"input": 300_000_000_000_000, "output": 400}]}, "can't be right"),
        ({"rates": [{"input": 0, "output": 400}]}, "can't be right"),
        ({"rates": [{"input": 400, "output": -1}]}, "can't be right"),
        ({"rates": [{"input": 400}]}, "output = 0 .* can't be right"),
        ({"rates": [{"input": 400, "output": 400, "output_image": 99}]}, "can't be right"),
        ({"rates": [{"input": 400, "output": 400, "above_prompt_tokens": 9}]}, "from 0 prompt"),
        ({"rates": []}, "from 0 prompt"),
        ({"tiers": {"flex": [{"input": 0, "output": 400}]}}, "can't be right"),
        ({"tiers": {"flex": []}}, "from 0 prompt"),
        ({"tiers": {"standard": [{"input": 400, "output": 400}]}}, "known tiers are flex, prio"),
        ({"search_query": 35_000_000_000_000}, "lookup can't be right"),
        ({"maps_query": 0}, "lookup can't be right"),
        ({"unpriced_lookup": 0}, "lookup can't be right"),
        ({"max_output_tokens": 0}, "must be positive"),
        ({"kind": "embedding", "rates": [{"input": 0}]}, "can't be right"),
        ({"kind": "embedding", "rates": [{"input": 400, "output": 1}]}, "can't be right"),
        ({"kind": "embedding", "rates": [{"input": 400}], "context_tokens": 0}, "be positive"),
        ({"search_unit": "month"}, "Invalid enum value"),
        ({"output_modalities": ["smell"]}, "Invalid enum value"),
    ],
)
def test_a_price_that_cant_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    """Per million typed as per token would block or ruin every account at once."""
    with pytest.raises(PriceCatalogError, match=complaint):
        load_catalog(catalog_file(tmp_path, **change), Decimal(1))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 1}', '{"version":"1","models":{}}', "not json"]
)
def test_a_catalogue_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text)

    with pytest.raises(PriceCatalogError):
        load_catalog(path, Decimal(1))


def test_a_missing_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceCatalogError, match=r"nowhere\.json"):
        load_catalog(tmp_path / "nowhere.json", Decimal(1))


# Where the table has a price of a kind, and where the catalogue has it.
LISTED_AS = {
    "input/token": "input",
    "cached_input/token": "cached_input",
    "input/audio_token": "input_audio",
    "input/image_token": "input",
    "input/video_token": "input",
    "cached_input/audio_token": "cached_input_audio",
    "output/token": "output",
    "output/audio_token": "output_audio",
    "output/image_token": "output_image",
    "output/reasoning_token": "output_thoughts",
}
PLAIN = {"input_audio": "input"} | dict.fromkeys(
    ("output_audio", "output_image", "output_thoughts"), "output"
)
# Other ways to say what the same is sold for, and what this gateway does not sell.
NOT_SOLD_BY = ("_per_second", "/character", "/second", "/image", "cache_write/token", "@batch")


# Retired models that the table does not have, or not in full; their prices are spelt out below.
ALSO_LISTED = {"gemini-3-pro-preview", "gemini-2.0-flash-preview-image-generation"}


def _list_prices() -> dict[str, Any]:
    if not LIST_PRICES.exists():
        pytest.skip("the table of list prices is not part of the project")
    table = json.loads(LIST_PRICES.read_text(), parse_float=Decimal)
    return {model["id"]: model for model in table["models"]}


def _from_the_table(
    catalog: PriceCatalog, listed: dict[str, Any]
) -> Iterator[tuple[str, ModelPrice]]:
    for name, price in catalog.models.items():
        assert name in listed or name in ALSO_LISTED
        if name not in ALSO_LISTED:
            yield name, price


def test_the_shipped_catalogue_has_the_list_prices(catalog: PriceCatalog) -> None:
    """Every price of the table: of each kind, size of the prompt, and service tier."""
    listed = _list_prices()
    compared = 0

    for name, price in _from_the_table(catalog, listed):
        for key, usd in listed[name]["prices_usd"].items():
            kind, tier, tokens = _read_key(key)
            if kind is None or (tier != STANDARD_TIER and tier not in price.tiers) or not usd:
                continue
            if price.kind == "embedding" and key != "input/token":
                # Only texts are embedded.
                continue
            rates = msgspec.structs.asdict(price.rates_for(tokens, tier))
            rate = rates[PLAIN.get(kind, kind)] if rates[kind] is None else rates[kind]
            assert rate == usd * 10**12, (name, key)
            compared += 1

    assert compared > 300


def _read_key(key: str) -> tuple[str | None, str, int]:
    """Return the kind that a price of the table is of, its tier, and a size of prompt."""
    listed_as, _, joined = key.partition("@")
    marks = joined.split(",") if joined else []
    if listed_as not in LISTED_AS or "batch" in marks:
        assert any(other in f"{listed_as}@{marks[-1] if marks else ''}" for other in NOT_SOLD_BY), (
            key
        )
        return None, STANDARD_TIER, 0
    sizes = [int(mark.strip(">k")) * 1_000 + 1 for mark in marks if mark.startswith(">")]
    tiers = [mark for mark in marks if not mark.startswith(">")]
    return LISTED_AS[listed_as], (tiers or [STANDARD_TIER])[0], (sizes or [0])[0]


def test_a_tier_is_sold_only_where_the_table_prices_all_of_it(catalog: PriceCatalog) -> None:
    """Else what it lacks would be sold at another tier's price, unseen."""
    listed = _list_prices()

    for name, price in _from_the_table(catalog, listed):
        prices = listed[name]["prices_usd"]
        for tier in price.tiers:
            standard = {key for key in prices if "@" not in key and key in LISTED_AS}
            lacking = {key for key in standard if f"{key}@{tier}" not in prices}
            own = {"output/reasoning_token", "output/image_token", "output/audio_token"}
            plain = {key for key in lacking & own if prices[key] == prices["output/token"]}
            same_in = {key for key in lacking - own if prices[key] == prices["input/token"]}
            assert lacking == plain | same_in, (name, tier)


def test_the_shipped_catalogue_has_the_list_prices_of_lookups(catalog: PriceCatalog) -> None:
    listed = _list_prices()

    for name, price in _from_the_table(catalog, listed):
        search = listed[name].get("search_context_cost_per_query", {}).values()
        if price.search_query is not None:
            assert {price.search_query} == {each * 10**12 for each in search}
        elif search:
            assert not listed[name]["supports"]["web_search"], name
        maps = listed[name].get("google_maps_grounding_cost_per_query")
        assert price.maps_query == (None if maps is None else maps * 10**12)
        per_query = listed[name].get("web_search_billing_unit") == "per_query"
        if price.can_search or price.can_use_maps:
            assert price.search_unit == ("query" if per_query else "prompt")


def test_retired_models_keep_the_prices_that_they_had(catalog: PriceCatalog) -> None:
    pro = catalog.models["gemini-3-pro-preview"]
    images = catalog.models["gemini-2.0-flash-preview-image-generation"]

    assert (pro.rates_for(1).input, pro.rates_for(1).output) == (2_000_000, 12_000_000)
    assert (pro.rates_for(200_001).input, pro.rates_for(200_001).output) == (4_000_000, 18_000_000)
    assert images.rates[0].output_image == 30_000_000
    assert pro.retired
    assert images.retired


def test_every_model_of_the_catalogue_has_a_price(catalog: PriceCatalog) -> None:
    """An unknown or free model is never served at 0."""
    for price in catalog.models.values():
        assert cost_of(TokenUsage(prompt_tokens=1), price).amount_nanos > 0
        if price.kind == "chat":
            assert cost_of(TokenUsage(candidates_tokens=1), price).amount_nanos > 0


def test_images_and_speech_are_never_sold_as_text(catalog: PriceCatalog) -> None:
    """An image has more tokens than it seems: at the price of text it would be a gift."""
    for name, price in catalog.models.items():
        rates = price.rates[0]
        if "image" in price.output_modalities:
            assert (rates.output_image or rates.output) >= 30_000_000, name
        if "audio" in price.output_modalities:
            assert (rates.output_audio or rates.output) >= 6_000_000, name


def test_an_unpriced_lookup_is_not_offered(catalog: PriceCatalog) -> None:
    newer, older = catalog.models["gemini-3.5-flash"], catalog.models["gemini-2.0-flash"]

    assert (newer.can_search, newer.can_use_maps) == (True, True)
    assert (older.can_search, older.can_use_maps) == (False, False)
