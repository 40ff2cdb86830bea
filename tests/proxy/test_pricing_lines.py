"""Each kind of usage is a line of its own: worked by hand from the list prices."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.pricing import LineItem, ModelPrice, cost_of
from ai_proxy_service.core.usage import TokenUsage
from support.orders import CATALOG

Line = tuple[str, int, str]
# 2.5 Flash, in USD per million: 0.30 in, 0.03 cached, 1.00 sound in, 0.10 of it cached, 2.50 out.
# A prompt that searched costs 0.035 USD, one with places of the map 0.025 USD.
FLASH = "gemini-2.5-flash"
# 2.5 Pro: 1.25 in, 0.125 cached, 10 out; for prompts of more than 200,000 tokens 2.50, 0.25, 15.
PRO = "gemini-2.5-pro"


@pytest.mark.parametrize(
    ("model", "counts", "lines", "usd"),
    [
        (FLASH, {}, [], "0"),
        (FLASH, {"prompt_tokens": 1_000}, [("input", 1_000, "0.0000003")], "0.0003"),
        (
            FLASH,
            {"prompt_tokens": 1_000, "cached_tokens": 600},
            [("input", 400, "0.0000003"), ("cached_input", 600, "0.00000003")],
            "0.000138",
        ),
        (
            FLASH,
            {"prompt_tokens": 1_000, "prompt_audio_tokens": 250},
            [("input_audio", 250, "0.000001"), ("input", 750, "0.0000003")],
            "0.000475",
        ),
        (
            FLASH,
            {
                "prompt_tokens": 1_000,
                "prompt_audio_tokens": 250,
                "cached_tokens": 300,
                "cached_audio_tokens": 100,
            },
            [
                ("input_audio", 150, "0.000001"),
                ("cached_input_audio", 100, "0.0000001"),
                ("input", 550, "0.0000003"),
                ("cached_input", 200, "0.00000003"),
            ],
            "0.000331",
        ),
        # what tools brought in is input
        (
            FLASH,
            {"prompt_tokens": 100, "tool_prompt_tokens": 900},
            [("input", 1_000, "0.0000003")],
            "0.0003",
        ),
        (
            FLASH,
            {"candidates_tokens": 100, "thoughts_tokens": 300},
            [("output", 100, "0.0000025"), ("thinking", 300, "0.0000025")],
            "0.001",
        ),
        # thinking may have a price of its own: 3.50 instead of 0.60
        (
            "gemini-2.5-flash-preview-04-17",
            {"candidates_tokens": 100, "thoughts_tokens": 300},
            [("output", 100, "0.0000006"), ("thinking", 300, "0.0000035")],
            "0.00111",
        ),
        # one image of 1,290 tokens at 30.00, with ten words beside it
        (
            "gemini-2.5-flash-image",
            {"candidates_tokens": 1_300, "output_image_tokens": 1_290},
            [("output", 10, "0.0000025"), ("output_image", 1_290, "0.00003")],
            "0.038725",
        ),
        # speech at 10.00, from text at 0.50
        (
            "gemini-2.5-flash-preview-tts",
            {"prompt_tokens": 20, "candidates_tokens": 500, "output_audio_tokens": 500},
            [("input", 20, "0.0000005"), ("output_audio", 500, "0.00001")],
            "0.00501",
        ),
        # the last token of the lower price, and the first of the upper one: for all of them
        (PRO, {"prompt_tokens": 200_000}, [("input", 200_000, "0.00000125")], "0.25"),
        (
            PRO,
            {"prompt_tokens": 200_001, "cached_tokens": 1, "candidates_tokens": 2},
            [
                ("input", 200_000, "0.0000025"),
                ("cached_input", 1, "0.00000025"),
                ("output", 2, "0.000015"),
            ],
            "0.50003025",
        ),
        # tool results make a prompt long, too
        (
            PRO,
            {"prompt_tokens": 199_999, "tool_prompt_tokens": 2},
            [("input", 200_001, "0.0000025")],
            "0.5000025",
        ),
        # half price, and nearly twice
        (
            FLASH,
            {"prompt_tokens": 10, "candidates_tokens": 10, "service_tier": "flex"},
            [("input", 10, "0.00000015"), ("output", 10, "0.00000125")],
            "0.000014",
        ),
        (
            FLASH,
            {"prompt_tokens": 10, "cached_tokens": 5, "service_tier": "priority"},
            [("input", 5, "0.00000054"), ("cached_input", 5, "0.000000054")],
            "0.00000297",
        ),
        # each prompt that searched is charged once, by the older models
        (FLASH, {"search_queries": 3}, [("search", 1, "0.035")], "0.035"),
        (FLASH, {"maps_queries": 2}, [("maps", 1, "0.025")], "0.025"),
        # and each query by the newer ones
        ("gemini-3.5-flash", {"search_queries": 3}, [("search", 3, "0.014")], "0.042"),
        ("gemini-3.5-flash", {"maps_queries": 2}, [("maps", 2, "0.014")], "0.028"),
        ("gemini-embedding-001", {"prompt_tokens": 8}, [("input", 8, "0.00000015")], "0.0000012"),
    ],
)
def test_a_cost_is_made_of_lines(
    model: str, counts: dict[str, Any], lines: list[Line], usd: str
) -> None:
    cost = cost_of(TokenUsage(**counts), CATALOG.models[model])

    found = [(item.kind, item.quantity, _usd(item.unit_price_pico)) for item in cost.items]
    assert found == [(kind, quantity, Decimal(each)) for kind, quantity, each in lines]
    assert _usd(cost.exact_pico) == Decimal(usd)
    assert cost.unpriced == ()


def _usd(pico: int) -> Decimal:
    return Decimal(pico).scaleb(-12)


@pytest.mark.parametrize(
    ("model", "units"),
    [(FLASH, ["token", "prompt", "prompt"]), ("gemini-3.5-flash", ["token", "query", "query"])],
)
def test_a_line_says_what_it_counts(model: str, units: list[str]) -> None:
    usage = TokenUsage(prompt_tokens=1, search_queries=2, maps_queries=2)

    assert [item.unit for item in cost_of(usage, CATALOG.models[model]).items] == units


def test_cached_tokens_that_may_be_sound_are_charged_as_the_dearer_kind() -> None:
    """Gemini said how much is cached and how much is sound, but not how much is both."""
    usage = TokenUsage(prompt_tokens=100, cached_tokens=60, prompt_audio_tokens=100)

    (line,) = cost_of(usage, CATALOG.models[FLASH]).items

    assert line == LineItem("input_audio", 100, 1_000_000)


TIERS = ("", "standard", "flex", "priority", "batch", "turbo")
COUNTED = (
    *("fresh", "cached", "audio", "cached_audio", "unknown", "tool"),
    *("words", "thoughts", "speech", "images", "other", "searches", "places"),
)
Used = dict[str, int]
used = st.fixed_dictionaries(
    {name: st.integers(0, 3) | st.integers(0, 250_000) for name in COUNTED}
)
prices = st.sampled_from(sorted(CATALOG.models)).map(CATALOG.models.__getitem__)
tiers = st.sampled_from(TIERS)


def usage_with(n: Used, tier: str) -> TokenUsage:
    """Make the usage that so many tokens of each kind are reported as."""
    return TokenUsage(
        prompt_tokens=n["fresh"] + n["cached"] + n["audio"] + n["cached_audio"] + n["unknown"],
        tool_prompt_tokens=n["tool"],
        cached_tokens=n["cached"] + n["cached_audio"],
        prompt_audio_tokens=n["audio"] + n["cached_audio"],
        cached_audio_tokens=n["cached_audio"],
        prompt_other_tokens=n["unknown"],
        candidates_tokens=n["words"] + n["speech"] + n["images"] + n["other"],
        thoughts_tokens=n["thoughts"],
        output_audio_tokens=n["speech"],
        output_image_tokens=n["images"],
        output_other_tokens=n["other"],
        search_queries=n["searches"],
        maps_queries=n["places"],
        service_tier=tier,
    )


@given(used, prices, tiers)
def test_a_charge_is_the_sum_of_its_lines_rounded_up_once(
    n: Used, price: ModelPrice, tier: str
) -> None:
    cost = cost_of(usage_with(n, tier), price)

    exact_pico = sum(item.quantity * item.unit_price_pico for item in cost.items)
    assert cost.exact_pico == exact_pico
    assert 0 <= cost.amount_nanos * 1_000 - exact_pico < 1_000
    assert cost.as_price("m", "v")["exact_cost_pico"] == str(exact_pico)


@given(used, prices, tiers)
def test_every_token_is_in_exactly_one_line(n: Used, price: ModelPrice, tier: str) -> None:
    usage = usage_with(n, tier)
    cost = cost_of(usage, price)

    kinds = [item.kind for item in cost.items]
    counted = {
        way: sum(item.quantity for item in cost.items if item.kind in of)
        for way, of in {
            "in": {"input", "cached_input", "input_audio", "cached_input_audio", "input_other"},
            "out": {"output", "thinking", "output_audio", "output_image", "output_other"},
        }.items()
    }
    assert len(kinds) == len(set(kinds))
    assert all(item.quantity > 0 for item in cost.items)
    assert counted == {"in": usage.input_tokens, "out": usage.output_tokens}


@given(used, prices, tiers, st.sampled_from(COUNTED), st.integers(1, 250_000))
def test_more_of_anything_never_costs_less(
    n: Used, price: ModelPrice, tier: str, which: str, more: int
) -> None:
    cost = cost_of(usage_with(n, tier), price)
    larger = cost_of(usage_with({**n, which: n[which] + more}, tier), price)

    assert larger.exact_pico >= cost.exact_pico


@given(used, prices, tiers)
def test_a_cost_is_between_its_cheapest_and_its_dearest_price(
    n: Used, price: ModelPrice, tier: str
) -> None:
    """Worked out from all rates that the model has: nothing is free, nothing beyond the list."""
    usage = usage_with(n, tier)
    every = [rates for some in (price.rates, *price.tiers.values()) for rates in some]
    kinds = [rates.by_kind() for rates in every]
    ins = [pico for some in kinds for kind, pico in some.items() if "input" in kind]
    outs = [pico for some in kinds for kind, pico in some.items() if "output" in kind]
    lookups = [price.search_query or price.unpriced_lookup, price.maps_query or 35_000_000_000]
    looked_up = bool(n["searches"]) * lookups[0] + bool(n["places"]) * lookups[1]
    dearest_lookups = n["searches"] * lookups[0] + n["places"] * lookups[1]

    exact_pico = cost_of(usage, price).exact_pico

    tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
    assert exact_pico >= tokens_in * min(ins) + tokens_out * min(outs) + looked_up
    assert exact_pico <= tokens_in * max(ins) + tokens_out * max(outs) + dearest_lookups
