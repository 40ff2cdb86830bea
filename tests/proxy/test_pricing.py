"""What a usage costs, exactly, and what is held for one."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.authorisation import estimate
from ai_proxy_service.core.price_catalog import PriceCatalog, load_catalog
from ai_proxy_service.core.pricing import Rates, cost_of, usage_record
from ai_proxy_service.core.usage import TokenUsage
from support.prices import SHIPPED, catalog_file


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
        # images at 120 USD per million, the text beside them and the thinking at 12 USD
        (
            "gemini-3-pro-image-preview",
            TokenUsage(candidates_tokens=1_780, output_image_tokens=1_120, thoughts_tokens=529),
            1_120 * 120_000_000 + (660 + 529) * 12_000_000,
        ),
        # newer models: 0.014 USD for each query
        (
            "gemini-3.5-flash",
            TokenUsage(prompt_tokens=1, search_queries=3),
            1_500_000 + 3 * 14_000_000_000,
        ),
        # older ones: 0.035 USD for a prompt that was searched for, however often
        (
            "gemini-2.5-flash",
            TokenUsage(prompt_tokens=1, search_queries=3),
            300_000 + 35_000_000_000,
        ),
        # and 0.025 USD for one with places from the map
        (
            "gemini-2.5-flash",
            TokenUsage(search_queries=1, maps_queries=2),
            35_000_000_000 + 25_000_000_000,
        ),
        # a tier has rates of its own
        (
            "gemini-2.5-flash",
            TokenUsage(prompt_tokens=2, candidates_tokens=1, service_tier="flex"),
            2 * 150_000 + 1_250_000,
        ),
        (
            "gemini-2.5-pro",
            TokenUsage(prompt_tokens=200_001, service_tier="priority"),
            200_001 * 4_500_000,
        ),
        # one without a price for a prompt of this size has the standard tier's
        (
            "gemini-2.5-pro",
            TokenUsage(prompt_tokens=200_001, service_tier="flex"),
            200_001 * 2_500_000,
        ),
        ("gemini-2.5-flash", TokenUsage(prompt_tokens=1, service_tier="standard"), 300_000),
        # this one's thinking costs more than its words
        (
            "gemini-2.5-flash-preview-04-17",
            TokenUsage(candidates_tokens=1, thoughts_tokens=1),
            600_000 + 3_500_000,
        ),
        # audio that costs what text costs is cached at the price of text
        (
            "gemini-3.5-flash",
            TokenUsage(
                prompt_tokens=10, prompt_audio_tokens=10, cached_tokens=4, cached_audio_tokens=4
            ),
            6 * 1_500_000 + 4 * 150_000,
        ),
        ("gemini-embedding-001", TokenUsage(prompt_tokens=7), 7 * 150_000),
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
    price = load_catalog(catalog_file(tmp_path), Decimal(1)).models["m"]

    cost = cost_of(TokenUsage(prompt_tokens=2, candidates_tokens=1), price)

    assert (cost.exact_pico, cost.amount_nanos) == (1_200, 2)


def test_the_tier_and_the_lookups_of_a_charge_are_recorded(catalog: PriceCatalog) -> None:
    usage = TokenUsage(prompt_tokens=1, search_queries=2, service_tier="priority")

    cost = cost_of(usage, catalog.models["gemini-3.5-flash"])
    record = cost.as_price("gemini-3.5-flash", catalog.version)

    assert usage_record(usage) == {"prompt_tokens": 1, "search_queries": 2}
    assert record["service_tier"] == "priority"
    assert record["unit_prices"]["input"] == 2_700_000
    assert record["lookups"] == [{"where": "search", "count": 2, "each_pico": 14_000_000_000}]
    assert record["exact_cost_pico"] == str(2_700_000 + 2 * 14_000_000_000)


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


def test_what_is_held_covers_the_dearest_output(catalog: PriceCatalog) -> None:
    price = catalog.models["gemini-3-pro-image-preview"]

    cost = estimate(price, 10, 1_000)

    worst = TokenUsage(prompt_tokens=10, candidates_tokens=1_000, output_image_tokens=1_000)
    assert cost.worst_nanos == cost_of(worst, price).amount_nanos


def test_what_is_held_is_of_the_tier_that_was_asked_for(catalog: PriceCatalog) -> None:
    price = catalog.models["gemini-2.5-flash"]
    usage = TokenUsage(prompt_tokens=10, candidates_tokens=1_000, service_tier="priority")

    cost = estimate(price, 10, 1_000, tier="priority")

    assert cost.worst_nanos == cost_of(usage, price).amount_nanos


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3.5-flash"])
def test_what_is_held_covers_lookups(catalog: PriceCatalog, model: str) -> None:
    price = catalog.models[model]
    usage = TokenUsage(prompt_tokens=1, search_queries=8, maps_queries=8)

    cost = estimate(price, 1, 0, lookups_pico=price.lookups_bound_pico(search=True, maps=True))

    assert cost.worst_nanos == cost_of(usage, price).amount_nanos
    assert price.lookups_bound_pico(search=False, maps=False) == 0


def test_no_more_is_held_for_a_prompt_than_the_model_reads(catalog: PriceCatalog) -> None:
    price = catalog.models["gemini-2.5-flash"]

    cost = estimate(price, 50_000_000, 1)

    assert cost.prompt_tokens == price.context_tokens
    assert cost.prompt_nanos == price.context_tokens * 300


def test_an_embedding_holds_its_prompt_alone(catalog: PriceCatalog) -> None:
    """Of all its texts: the model's limit holds for each of them."""
    cost = estimate(catalog.models["gemini-embedding-001"], 100_000, 0)

    assert cost.worst_nanos == 15_000_000
    assert cost.output_tokens_for(0) == 0


def test_a_price_s_worst_output_is_its_dearest() -> None:
    rates = [
        Rates(input=400, output=1_000, output_audio=2_000, output_image=3_000),
        Rates(input=400, output=1_000, output_thoughts=3_000),
        Rates(input=400, output=3_000),
    ]

    assert [some.worst_output for some in rates] == [3_000, 3_000, 3_000]
