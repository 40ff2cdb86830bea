"""What Google's SKUs mean, and which name each model is billed under."""

import pytest

from credits.reconcile_books import INPUT_SKU, OUTPUT_SKU
from credits_service.reconciliation.google_sku import ALL_MODELS, Sku, billed_model, sku_of

LITE = "gemini-2.5-flash-lite"


@pytest.mark.parametrize(
    ("description", "model", "tier", "kind"),
    [
        (INPUT_SKU, LITE, "standard", "input"),
        # The size class of the prompt is said of output too: it is no input.
        (
            "Generate content output token count gemini 2.5 flash short input text",
            "gemini-2.5-flash",
            "standard",
            "output",
        ),
        (
            f"{OUTPUT_SKU} non-thinking",
            LITE,
            "standard",
            "output",
        ),
        (
            "Generate content input token count Gemini 2.5 Pro long input text",
            "gemini-2.5-pro",
            "standard",
            "input",
        ),
        (
            "Generate content input token count gemini 2.5 flash input image",
            "gemini-2.5-flash",
            "standard",
            "input",
        ),
        (
            "Generate content input token count gemini 2.5 flash input audio",
            "gemini-2.5-flash",
            "standard",
            "input_audio",
        ),
        (
            "Generate content cached input token count gemini 2.5 flash input audio",
            "gemini-2.5-flash",
            "standard",
            "cached_input_audio",
        ),
        (
            "Generate content cached input token count gemini 2.5 pro short input",
            "gemini-2.5-pro",
            "standard",
            "cached_input",
        ),
        (
            "Generate_content cached text input token count for gemini 3 flash",
            "gemini-3-flash",
            "standard",
            "cached_input",
        ),
        (
            "Generate_content text cached input token count for gemini 3 pro short",
            "gemini-3-pro",
            "standard",
            "cached_input",
        ),
        (
            "Generate_content_cached_input_token_count_gemini_3_pro_short_image",
            "gemini-3-pro",
            "standard",
            "cached_input",
        ),
        (
            "GenerateContent text output token count for Gemini 2.0 Flash",
            "gemini-2.0-flash",
            "standard",
            "output",
        ),
        (
            "Generate_content image output token count for Gemini 3 Pro Image",
            "gemini-3-pro-image",
            "standard",
            "output_image",
        ),
        (
            (
                "Generate_content image output token count for "
                "Gemini 2.5 Flash Native Image Generation"
            ),
            "gemini-2.5-flash-image",
            "standard",
            "output_image",
        ),
        (
            "Generate content output token count gemini 3.1 flash image",
            "gemini-3.1-flash-image",
            "standard",
            "output_image",
        ),
        (
            "Generate content input token count gemini 3.1 flash image text",
            "gemini-3.1-flash-image",
            "standard",
            "input",
        ),
        (
            "Generate content input token count gemini 3.1 flash lite preview image",
            "gemini-3.1-flash-lite",
            "standard",
            "input",
        ),
        (
            "Generate content output token count gemini 3 flash text flex",
            "gemini-3-flash",
            "flex",
            "output",
        ),
        (
            "Generate content input token count gemini 3.7 flash image flex caching",
            "gemini-3.7-flash",
            "flex",
            "cached_input",
        ),
        (
            "Generate_content text output token count for gemini 3 flash batch",
            "gemini-3-flash",
            "batch",
            "output",
        ),
        (
            "EmbedContent input token count for gemini-embedding-001",
            "gemini-embedding-001",
            "standard",
            "input",
        ),
        (
            "EmbedContent input token count for gemini-embedding-2 text",
            "gemini-embedding-2",
            "standard",
            "input",
        ),
        (
            "Generate content cached content storage token hours gemini 3.8 flash",
            "gemini-3.8-flash",
            "standard",
            "cache_storage",
        ),
        ("Generate content search query gemini 3 paid one", ALL_MODELS, "standard", "search"),
        ("Generate content search query gemini 3 free", ALL_MODELS, "standard", "search"),
        ("Grounding with Google Maps on Gemini 3", ALL_MODELS, "standard", "maps"),
    ],
)
def test_a_sku_says_model_tier_and_kind(description: str, model: str, tier: str, kind: str) -> None:
    assert sku_of(description) == Sku(model, tier, kind)


@pytest.mark.parametrize(
    "description",
    [
        "",
        "E2 Instance Core running in Americas",
        "Bidi_generate_content text input token count for gemini-3.8-live",
        "Gemini 3.1 Flash Image Image Output - Predictions",
        "Generate content input token count",
        "Generate content input token count text",
        "Generate content hologram token count gemini 3 flash text",
    ],
)
def test_what_is_not_understood_is_not_guessed(description: str) -> None:
    assert sku_of(description) is None


@pytest.mark.parametrize(
    ("model", "billed"),
    [
        ("gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-2.5-flash-preview-04-17", "gemini-2.5-flash"),
        ("gemini-2.5-flash-preview-tts", "gemini-2.5-flash-tts"),
        ("gemini-3.1-pro-preview-customtools", "gemini-3-pro"),
        ("gemini-1.5-pro-exp-0801", "gemini-1.5-pro"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-1.5-flash-latest", "gemini-1.5-flash"),
        ("gemini-embedding-001", "gemini-embedding-001"),
        ("gemini-embedding-2-preview", "gemini-embedding-2"),
        ("gemini-flash-latest", "gemini-3.6-flash"),
        ("gemini-pro-latest", "gemini-pro-latest"),
    ],
)
def test_a_model_is_billed_under_one_name(model: str, billed: str) -> None:
    assert billed_model(model, {"gemini-flash-latest": "gemini-3.6-flash"}) == billed
    assert billed_model(billed) == billed
