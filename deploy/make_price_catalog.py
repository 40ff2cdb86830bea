"""Make the shipped price catalogue from a table of Gemini's list prices.

    python deploy/make_price_catalog.py PRICES.json DATE > services/…/data/prices.json

The table has one entry a model, with `prices_usd` in USD per token, keyed
``direction/unit@tier``. Only models that a chat can use are taken: text in and out, a price
for both, reached through `generateContent`.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

PICO_PER_USD = 10**12
KINDS = {
    "input/token": "input",
    "output/token": "output",
    "cached_input/token": "cached_input",
    "input/audio_token": "input_audio",
    "cached_input/audio_token": "cached_input_audio",
    "output/audio_token": "output_audio",
}
TIERS = {"": 0, ">128k": 128_000, ">200k": 200_000}
# Reached through other methods than generateContent (Interactions, Live), or no chat models.
NOT_CHAT = (
    *("deep-research", "lyria", "gemini-omni", "gemini-gemma", "-live-", "-streaming-"),
    # answers in images, which a chat's token prices don't cover
    "-image-generation",
    # the table has a tenth of the output price that the same model has under its other names
    "gemini-1.5-pro-latest",
)


def is_chat(model: dict[str, Any]) -> bool:
    """Tell whether a chat can use the model at a known, non-zero price."""
    prices = model["prices_usd"]
    outputs = model.get("supported_output_modalities") or ["text"]
    return (
        model["mode"] == "chat"
        and "text" in outputs
        and not any(mark in model["id"] for mark in NOT_CHAT)
        and bool(prices.get("input/token"))
        and bool(prices.get("output/token"))
    )


def pico(usd_per_token: Any) -> int:
    """Turn a list price into whole pico-USD per token; list prices are multiples of 1e-10 USD."""
    return round(Decimal(str(usd_per_token)) * PICO_PER_USD)


def rates(prices: dict[str, Any]) -> list[dict[str, int]]:
    """Return the standard tier's rates, by size of the prompt."""
    tiers: dict[int, dict[str, int]] = {}
    for key, value in prices.items():
        kind, _, tier = key.partition("@")
        if kind in KINDS and tier in TIERS and value:
            tiers.setdefault(TIERS[tier], {})[KINDS[kind]] = pico(value)
    base = tiers.pop(0)
    result = [base]
    for above, changed in sorted(tiers.items()):
        result.append({"above_prompt_tokens": above, **base, **changed})
    return result


def main() -> None:
    """Read the table named on the command line and print the catalogue."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - the script, a path and a date
        sys.exit("usage: make_price_catalog.py PRICES.json DATE")
    table = json.loads(Path(sys.argv[1]).read_text(), parse_float=Decimal)
    models = {
        model["id"]: {
            "context_tokens": model["context_window"],
            "max_output_tokens": model["max_output"],
            **({"retired": True} if model.get("retired_from_newest_list") else {}),
            "rates": rates(model["prices_usd"]),
        }
        for model in sorted(table["models"], key=lambda model: str(model["id"]))
        if is_chat(model)
    }
    catalog = {
        "version": sys.argv[2],
        "effective": sys.argv[2],
        "source": "Gemini list prices of ai.google.dev/gemini-api/docs/pricing, as collected in "
        "litellm 1.109.1 (MIT); USD per token x 1e12",
        "models": models,
    }
    sys.stdout.write(json.dumps(catalog, indent=1) + "\n")


if __name__ == "__main__":
    main()
