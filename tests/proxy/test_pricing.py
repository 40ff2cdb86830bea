"""What a usage costs, exactly, and which catalogues are refused."""

import json
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.gemini import ModalityTokenCount, UsageMetadata
from ai_proxy_service.core.pricing import (
    PriceCatalog,
    PriceCatalogError,
    cost_of,
    load_catalog,
)
from ai_proxy_service.core.usage import TokenUsage, usage_of

SHIPPED = Path(str(resources.files("ai_proxy_service.data") / "prices.json"))
LIST_PRICES = Path(__file__).parents[3] / "shared" / "data" / "gemini-prices.json"


@pytest.fixture(scope="module")
def catalog() -> PriceCatalog:
    return load_catalog(SHIPPED, Decimal(1))


@pytest.mark.parametrize(
    ("model", "usage", "picos"),
    [
        # 0.30 USD and 2.50 USD per million
        ("gemini-2.5-flash", TokenUsage(prompt_tokens=57, candidates_tokens=200), 517_100_000),
        # thinking is billed as output
        (
            "gemini-2.5-flash",
            TokenUsage(prompt_tokens=1, candidates_tokens=1, thoughts_tokens=2),
            300_000 + 3 * 2_500_000,
        ),
        # cached tokens are inside the prompt's, at 0.03 USD per million
        (
            "gemini-2.5-flash",
            TokenUsage(prompt_tokens=1_000, cached_tokens=900),
            100 * 300_000 + 900 * 30_000,
        ),
        # audio in the prompt at 1.00 USD per million
        (
            "gemini-2.5-flash",
            TokenUsage(prompt_tokens=100, prompt_audio_tokens=40),
            60 * 300_000 + 40 * 1_000_000,
        ),
        # tokens of tool results count as input, not as output
        ("gemini-2.5-flash", TokenUsage(prompt_tokens=10, tool_prompt_tokens=5), 15 * 300_000),
        # exactly 200,000 prompt tokens are still in the lower tier
        (
            "gemini-2.5-pro",
            TokenUsage(prompt_tokens=200_000, candidates_tokens=1),
            200_000 * 1_250_000 + 10_000_000,
        ),
        # one more, and the whole request is in the upper one
        (
            "gemini-2.5-pro",
            TokenUsage(prompt_tokens=200_001, candidates_tokens=1),
            200_001 * 2_500_000 + 15_000_000,
        ),
    ],
)
def test_a_usage_costs_the_sum_of_tokens_times_price(
    catalog: PriceCatalog, model: str, usage: TokenUsage, picos: int
) -> None:
    cost = cost_of(usage, catalog.models[model])

    assert cost.exact_pico == picos
    assert cost.amount_nanos == -(-picos // 1_000)


def test_a_charge_is_rounded_once_and_up(tmp_path: Path) -> None:
    """Three tokens at 0.4 nano-USD cost 1.2 nano-USD, so 2, not three times 1."""
    price = load_catalog(_catalog_file(tmp_path, input=400, output=400), Decimal(1)).models["m"]

    cost = cost_of(TokenUsage(prompt_tokens=2, candidates_tokens=1), price)

    assert (cost.exact_pico, cost.amount_nanos) == (1_200, 2)


counts = st.integers(min_value=0, max_value=2_000_000)


@given(counts, counts, counts, st.sampled_from(["gemini-2.5-pro", "gemini-2.5-flash"]))
def test_a_charge_can_be_recomputed_from_its_record(
    prompt: int, candidates: int, thoughts: int, model: str
) -> None:
    catalog = load_catalog(SHIPPED, Decimal("1.07"))
    usage = TokenUsage(prompt_tokens=prompt, candidates_tokens=candidates, thoughts_tokens=thoughts)
    cost = cost_of(usage, catalog.models[model])

    record = cost.as_price(model, catalog.version)

    unit_prices = record["unit_prices"]
    recomputed = prompt * unit_prices["input"] + (candidates + thoughts) * unit_prices["output"]
    assert record["exact_cost_pico"] == str(recomputed)
    assert cost.amount_nanos == -(-recomputed // 1_000)


def test_a_mark_up_raises_every_unit_price(tmp_path: Path) -> None:
    path = _catalog_file(tmp_path, input=333, output=1_000)

    rates = load_catalog(path, Decimal("1.5")).models["m"].rates[0]

    assert (rates.input, rates.output) == (500, 1_500)


def test_tokens_without_a_price_of_their_own_have_the_plain_one(catalog: PriceCatalog) -> None:
    usage = TokenUsage(prompt_tokens=1, candidates_tokens=10, output_audio_tokens=10)

    cost = cost_of(usage, catalog.models["gemini-2.5-flash"])

    assert cost.exact_pico == 300_000 + 10 * 2_500_000


def test_counts_are_read_from_the_wire_and_never_pay_the_client() -> None:
    metadata = UsageMetadata(
        prompt_token_count=100,
        cached_content_token_count=150,
        candidates_token_count=-5,
        thoughts_token_count=7,
        prompt_tokens_details=[
            ModalityTokenCount("TEXT", 60),
            ModalityTokenCount("AUDIO", 40),
        ],
    )

    usage = usage_of(metadata)

    assert usage.cached_tokens == 100
    assert usage.candidates_tokens == 0
    assert usage.output_tokens == 7
    assert usage.prompt_audio_tokens == 40
    assert usage.total_tokens == 107


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": 300_000_000_000_000}, "can't be right"),
        ({"input": 0}, "can't be right"),
        ({"output": -1}, "can't be right"),
    ],
)
def test_a_price_of_the_wrong_magnitude_is_refused(
    tmp_path: Path, change: dict[str, int], complaint: str
) -> None:
    """Per million typed as per token would block or ruin every account at once."""
    path = _catalog_file(tmp_path, **{"input": 300_000, "output": 2_500_000, **change})

    with pytest.raises(PriceCatalogError, match=complaint):
        load_catalog(path, Decimal(1))


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


def test_the_shipped_catalogue_has_the_list_prices(catalog: PriceCatalog) -> None:
    if not LIST_PRICES.exists():
        pytest.skip("the table of list prices is not part of the project")
    table = json.loads(LIST_PRICES.read_text(), parse_float=Decimal)
    listed = {model["id"]: model["prices_usd"] for model in table["models"]}

    for name, price in catalog.models.items():
        rates = price.rates[0]
        assert rates.input == Decimal(listed[name]["input/token"]) * 10**12
        assert rates.output == Decimal(listed[name]["output/token"]) * 10**12


def test_every_model_of_the_catalogue_has_a_price(catalog: PriceCatalog) -> None:
    """An unknown or free model is never served at 0."""
    for price in catalog.models.values():
        assert cost_of(TokenUsage(prompt_tokens=1), price).amount_nanos > 0
        assert cost_of(TokenUsage(candidates_tokens=1), price).amount_nanos > 0


def _catalog_file(folder: Path, **rates: int) -> Path:
    catalog: dict[str, Any] = {
        "version": "test",
        "effective": "2026-01-01",
        "source": "test",
        "models": {"m": {"context_tokens": 1000, "max_output_tokens": 100, "rates": [rates]}},
    }
    path = folder / "prices.json"
    path.write_bytes(msgspec.json.encode(catalog))
    return path
