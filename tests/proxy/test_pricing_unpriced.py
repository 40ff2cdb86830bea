"""What has no price and is used all the same: charged at the dearest that applies, and told."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from ai_proxy_service.core.gemini import ModalityTokenCount, UsageMetadata
from ai_proxy_service.core.price_catalog import load_catalog
from ai_proxy_service.core.pricing import LineItem, cost_of
from ai_proxy_service.core.usage import TokenUsage, usage_of
from support.fakes import text_chunk
from support.orders import CATALOG, make_order
from support.prices import catalog_file
from support.relay_bench import Bench

TEXT_MODEL = "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("model", "counts", "line"),
    [
        # a text model's plain output is its dearest
        (
            TEXT_MODEL,
            {"candidates_tokens": 9, "output_audio_tokens": 9},
            LineItem("output_audio", 9, 2_500_000),
        ),
        (
            TEXT_MODEL,
            {"candidates_tokens": 9, "output_image_tokens": 9},
            LineItem("output_image", 9, 2_500_000),
        ),
        # an image model's images are
        (
            "gemini-2.5-flash-image",
            {"candidates_tokens": 9, "output_audio_tokens": 9},
            LineItem("output_audio", 9, 30_000_000),
        ),
        (
            "gemini-2.5-flash-image",
            {"candidates_tokens": 9, "output_other_tokens": 9},
            LineItem("output_other", 9, 30_000_000),
        ),
        # of the input, sound is
        (
            TEXT_MODEL,
            {"prompt_tokens": 9, "prompt_other_tokens": 9},
            LineItem("input_other", 9, 1_000_000),
        ),
        # a model that can't search has the list's dearest lookup, each
        (
            "gemini-2.0-flash",
            {"search_queries": 2},
            LineItem("search", 2, 35_000_000_000, "query"),
        ),
        ("gemini-2.0-flash", {"maps_queries": 2}, LineItem("maps", 2, 35_000_000_000, "query")),
    ],
)
def test_a_kind_without_a_price_costs_the_dearest_that_applies(
    model: str, counts: dict[str, Any], line: LineItem
) -> None:
    cost = cost_of(TokenUsage(**counts), CATALOG.models[model])

    assert cost.items == (line,)
    assert cost.unpriced == (line.kind,)
    assert cost.as_price(model, "v")["unpriced"] == [line.kind]


@pytest.mark.parametrize(
    ("model", "tier", "input_pico", "charged_as"),
    [
        # 2.5 Flash has priority as its dearest
        (TEXT_MODEL, "turbo", 540_000, "priority"),
        # what Google sells cheaper than standard is not charged dearer than that
        (TEXT_MODEL, "batch", 300_000, "standard"),
        # a model that has one tier has no dearer one
        ("gemini-2.5-flash-image", "priority", 300_000, "standard"),
        ("gemini-2.5-flash-image", "flex", 300_000, "standard"),
    ],
)
def test_a_service_tier_without_a_price_costs_the_dearest_that_applies(
    model: str, tier: str, input_pico: int, charged_as: str
) -> None:
    cost = cost_of(TokenUsage(prompt_tokens=1, service_tier=tier), CATALOG.models[model])

    assert (cost.exact_pico, cost.tier) == (input_pico, charged_as)
    assert cost.unpriced == ("service_tier",)


@pytest.mark.parametrize("tier", ["", "standard", "flex", "priority"])
def test_a_tier_that_has_a_price_is_no_exception(tier: str) -> None:
    usage = TokenUsage(prompt_tokens=1, service_tier=tier)

    assert cost_of(usage, CATALOG.models[TEXT_MODEL]).unpriced == ()


def test_an_operator_may_set_the_price_of_lookups_that_none_was_expected_of(
    tmp_path: Path,
) -> None:
    path = catalog_file(tmp_path, unpriced_lookup=50_000_000_000)

    price = load_catalog(path, Decimal(2)).models["m"]

    assert cost_of(TokenUsage(search_queries=1), price).exact_pico == 100_000_000_000


def details(**counts: int) -> list[ModalityTokenCount]:
    """Make the details of a count."""
    return [ModalityTokenCount(modality, tokens) for modality, tokens in counts.items()]


def test_video_documents_and_images_are_ordinary_input() -> None:
    """Google has one price for all of them."""
    report = UsageMetadata(
        prompt_token_count=100,
        prompt_tokens_details=details(TEXT=10, VIDEO=40, DOCUMENT=30, IMAGE=20),
    )

    cost = cost_of(usage_of(report), CATALOG.models[TEXT_MODEL])

    assert cost.items == (LineItem("input", 100, 300_000),)
    assert cost.unpriced == ()


def test_kinds_that_nobody_knows_are_counted_apart() -> None:
    report = UsageMetadata(
        prompt_token_count=100,
        prompt_tokens_details=details(TEXT=60, SMELL=30, AUDIO=10),
        candidates_token_count=50,
        candidates_tokens_details=details(TEXT=20, VIDEO=25, IMAGE=5),
    )

    usage = usage_of(report)

    assert (usage.prompt_other_tokens, usage.prompt_audio_tokens) == (30, 10)
    assert (usage.output_other_tokens, usage.output_image_tokens) == (25, 5)


def test_no_more_is_of_an_unknown_kind_than_there_is_in_all() -> None:
    report = UsageMetadata(
        prompt_token_count=10,
        prompt_tokens_details=details(AUDIO=8, SMELL=99),
        candidates_token_count=10,
        candidates_tokens_details=details(AUDIO=4, IMAGE=3, VIDEO=99),
    )

    usage = usage_of(report)

    assert (usage.prompt_other_tokens, usage.output_other_tokens) == (2, 3)


async def test_it_is_charged_counted_and_logged(bench: Bench) -> None:
    report = UsageMetadata(
        candidates_token_count=4,
        candidates_tokens_details=details(AUDIO=4),
        service_tier="turbo",
    )
    bench.gemini.items = [
        msgspec.structs.replace(text_chunk("hi", finish="STOP"), usage_metadata=report)
    ]

    completion = await bench.relay().collect(make_order(streamed=False))
    with structlog.testing.capture_logs() as lines:
        await completion.settle()

    (settlement,) = bench.billing.settlements
    assert settlement.amount_nanos == 4 * 4_500
    assert settlement.price["unpriced"] == ["service_tier", "output_audio"]
    counted = bench.metrics.readings().by_label("gateway_usage_without_price_total", "kind")
    assert counted == {"service_tier": 1, "output_audio": 1}
    assert [line["kind"] for line in lines if line["event"] == "usage_without_price"] == [
        "service_tier",
        "output_audio",
    ]
