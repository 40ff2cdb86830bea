"""What Gemini's answers say has been used, and how it is counted."""

from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.gemini import (
    GenerateContentResponse,
    ModalityTokenCount,
    UsageMetadata,
)
from ai_proxy_service.core.usage import TokenUsage, UsageTally, usage_of


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


def _seen(*chunks: dict[str, Any], requested_tier: str = "standard") -> TokenUsage | None:
    tally = UsageTally(requested_tier)
    for chunk in chunks:
        tally.note([msgspec.convert(chunk, GenerateContentResponse)])
    return tally.usage


def _grounded(**metadata: Any) -> dict[str, Any]:
    return {"candidates": [{"groundingMetadata": metadata}]}


def _calling(tool: str, *queries: str) -> dict[str, Any]:
    call = {"toolType": tool, "args": {"queries": list(queries)}}
    return {"candidates": [{"content": {"parts": [{"text": "x"}, {"toolCall": call}]}}]}


WEB = {"web": {"uri": "https://example.org"}}
PLACE = {"maps": {"uri": "https://maps.google.com/?cid=1"}}


@pytest.mark.parametrize(
    ("chunks", "search_queries", "maps_queries"),
    [
        ([_grounded(webSearchQueries=["a", "b"], groundingChunks=[WEB])], 2, 0),
        # repeated in a later chunk, or by another candidate
        ([_grounded(webSearchQueries=["a"]), _grounded(webSearchQueries=["b", "a"])], 2, 0),
        # Google lists empty ones, and does not charge them
        ([_grounded(webSearchQueries=["", "a"])], 1, 0),
        # searched for in vain
        ([_grounded(webSearchQueries=["a"], groundingChunks=[])], 1, 0),
        # sources that the request named: read, not searched for
        ([_grounded(groundingChunks=[WEB])], 0, 0),
        ([_grounded()], 0, 0),
        # the map's queries are listed as the web's
        ([_grounded(webSearchQueries=["pizza"], groundingChunks=[PLACE])], 0, 1),
        ([_grounded(groundingChunks=[PLACE, PLACE])], 0, 1),
        # both: the web's price for what may be either
        ([_grounded(webSearchQueries=["a", "b"], groundingChunks=[WEB, PLACE])], 2, 1),
        # newer models show their calls, at times with nothing else
        ([_calling("GOOGLE_SEARCH_WEB", "a", "b")], 2, 0),
        ([_calling("GOOGLE_SEARCH_WEB", "a"), _grounded(webSearchQueries=["", "a"])], 1, 0),
        ([_calling("GOOGLE_MAPS", "pizza"), _grounded(webSearchQueries=["pizza", "a"])], 0, 2),
        (
            [
                _calling("GOOGLE_MAPS", "pizza"),
                _grounded(webSearchQueries=["pizza", "a"], groundingChunks=[WEB]),
            ],
            1,
            1,
        ),
        ([_calling("FILE_SEARCH", "a")], 0, 0),
        ([{"candidates": [{"content": {"parts": [{"toolCall": {"args": None}}]}}]}], 0, 0),
        (
            [{"candidates": [{"content": {"parts": [{"toolCall": {"args": {"queries": 1}}}]}}]}],
            0,
            0,
        ),
    ],
)
def test_each_different_lookup_is_counted_once(
    chunks: list[dict[str, Any]], search_queries: int, maps_queries: int
) -> None:
    counts = {"usageMetadata": {"promptTokenCount": 5}}

    usage = _seen(*chunks, counts)

    assert usage is not None
    assert (usage.search_queries, usage.maps_queries) == (search_queries, maps_queries)
    assert usage.prompt_tokens == 5


def test_the_last_report_of_an_answer_is_the_right_one() -> None:
    usage = _seen(
        {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 15}},
        {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]},
        {"usageMetadata": {"promptTokenCount": 87, "thoughtsTokenCount": 78}},
    )

    assert usage == TokenUsage(
        prompt_tokens=87, thoughts_tokens=78, total_tokens=165, service_tier="standard"
    )


def test_nothing_is_known_before_anything_is_reported() -> None:
    assert _seen({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}) is None


def test_a_lookup_is_charged_even_if_nothing_else_was_reported() -> None:
    usage = _seen(_grounded(webSearchQueries=["a"]))

    assert usage == TokenUsage(search_queries=1, service_tier="standard")


@pytest.mark.parametrize(
    ("reported", "requested", "counted"),
    [("STANDARD", "flex", "standard"), ("flex", "standard", "flex"), (None, "flex", "flex")],
)
def test_the_tier_that_served_counts_or_else_the_one_asked_for(
    reported: str | None, requested: str, counted: str
) -> None:
    metadata = {"promptTokenCount": 1, **({"serviceTier": reported} if reported else {})}

    usage = _seen({"usageMetadata": metadata}, requested_tier=requested)

    assert usage is not None
    assert usage.service_tier == counted


def test_image_tokens_are_read_whichever_way_their_modality_is_sent() -> None:
    for modality in ("IMAGE", 2):
        details = [ModalityTokenCount(modality, 1_120), ModalityTokenCount("TEXT", 10)]
        metadata = UsageMetadata(candidates_token_count=1_518, candidates_tokens_details=details)

        assert usage_of(metadata).output_image_tokens == 1_120


def test_image_and_audio_tokens_are_never_more_than_there_are() -> None:
    details = [ModalityTokenCount("AUDIO", 8), ModalityTokenCount("IMAGE", 8)]

    usage = usage_of(UsageMetadata(candidates_token_count=10, candidates_tokens_details=details))

    assert (usage.output_audio_tokens, usage.output_image_tokens) == (8, 2)


def test_the_largest_step_is_that_of_a_report_not_of_what_arrived_together() -> None:
    tally = UsageTally()

    tally.note(
        GenerateContentResponse(usage_metadata=UsageMetadata(candidates_token_count=tokens))
        for tokens in (10, 60, 90)
    )

    assert tally.output_tokens == 90
    assert tally.largest_step_tokens == 50
