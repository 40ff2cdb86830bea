"""Make the shipped price catalogue from a table of Gemini's list prices.

    python deploy/make_price_catalog.py PRICES.json DATE > services/…/data/prices.json

The table has one entry a model, with `prices_usd` in USD per token, keyed
``direction/unit@tiers``. Taken are the models that `generateContent` or `batchEmbedContents`
reaches, and for which the table prices each kind of token that they can produce.
"""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

PICO_PER_USD = 10**12
KINDS = {
    "input/token": "input",
    "cached_input/token": "cached_input",
    "input/audio_token": "input_audio",
    "cached_input/audio_token": "cached_input_audio",
    "output/token": "output",
    "output/audio_token": "output_audio",
    "output/image_token": "output_image",
    "output/reasoning_token": "output_thoughts",
}
# What a kind is priced as where it has no price of its own: see `cost_of`.
PLAIN = {
    "input_audio": "input",
    "output_audio": "output",
    "output_image": "output",
    "output_thoughts": "output",
}
SIZES = {"": 0, ">128k": 128_000, ">200k": 200_000}
TIERS = ("flex", "priority")
MODALITIES = {"text", "image", "audio"}
KIND_OF_MODE = {
    "chat": "chat",
    "image_generation": "chat",
    "audio_speech": "chat",
    "embedding": "embedding",
}
# Reached through other methods than generateContent (Interactions, Live), or no chat models.
NOT_CHAT = (
    *("deep-research", "lyria", "gemini-omni", "gemini-gemma", "-live-", "-streaming-"),
    # answers in images, for which the table has no price
    "flash-exp-image-generation",
    # the table has a tenth of the output price that the same model has under its other names
    "gemini-1.5-pro-latest",
)
# The table has the price of images as that of all output.
PLAIN_PRICE_IS_THE_IMAGES = ("gemini-2.5-flash-image-preview",)


def is_served(model: dict[str, Any]) -> bool:
    """Tell whether the model can be reached, and has a known, non-zero price."""
    prices = model["prices_usd"]
    kind = KIND_OF_MODE.get(model["mode"])
    if kind is None or any(mark in model["id"] for mark in NOT_CHAT):
        return False
    return bool(prices.get("input/token") and (prices.get("output/token") or kind == "embedding"))


def output_modalities(model: dict[str, Any]) -> list[str]:
    """Return what the model can answer with, as far as that is priced."""
    listed = model.get("supported_output_modalities") or ["text"]
    if model["mode"] == "audio_speech":
        listed = ["audio"]
    images = "output/image_token" in model["prices_usd"] or model["id"] in PLAIN_PRICE_IS_THE_IMAGES
    return [name for name in listed if name in MODALITIES and (name != "image" or images)]


def pico(usd: Any) -> int:
    """Turn a list price into whole pico-USD; list prices are multiples of 1e-10 USD."""
    return round(Decimal(str(usd)) * PICO_PER_USD)


def rates(prices: dict[str, Any], tier: str = "") -> list[dict[str, int]]:
    """Return a service tier's rates, by size of the prompt; none if it is not priced in full."""
    sizes: dict[int, dict[str, int]] = {}
    for key, value in prices.items():
        kind, _, joined = key.partition("@")
        marks = joined.split(",") if joined else []
        size = next((mark for mark in marks if mark.startswith(">")), "")
        named = [mark for mark in marks if mark != size]
        if kind in KINDS and size in SIZES and named == [tier] * bool(tier) and value:
            sizes.setdefault(SIZES[size], {})[KINDS[kind]] = pico(value)
    base = sizes.pop(0, {})
    result = [{kind: base[kind] for kind in KINDS.values() if kind in base}]
    for above, changed in sorted(sizes.items()):
        result.append({"above_prompt_tokens": above, **result[0], **changed})
    return [without_repetitions(some) for some in result]


def without_repetitions(some: dict[str, int]) -> dict[str, int]:
    """Leave out the kinds that cost what they would cost without a price of their own."""
    return {
        kind: price
        for kind, price in some.items()
        if kind not in PLAIN or price != some.get(PLAIN[kind])
    }


def tiers(prices: dict[str, Any]) -> dict[str, list[dict[str, int]]]:
    """Return the rates of the service tiers that have a price for all that the standard one has.

    A long prompt without a price of its own in a tier has the standard tier's.
    """
    standard = rates(prices)
    result = {}
    for tier in TIERS:
        found = rates(prices, tier)
        if standard[0].keys() <= found[0].keys():
            result[tier] = found + standard[len(found) :]
    return result


def lookups(model: dict[str, Any]) -> dict[str, Any]:
    """Return what looking something up costs, where the model can do it."""
    search = set((model.get("search_context_cost_per_query") or {}).values())
    maps = model.get("google_maps_grounding_cost_per_query")
    result: dict[str, Any] = {}
    if search and model.get("supports", {}).get("web_search"):
        # One price, whatever the size of the context.
        (each,) = search
        result["search_query"] = pico(each)
    if maps:
        result["maps_query"] = pico(maps)
    if result and model.get("web_search_billing_unit") != "per_query":
        result["search_unit"] = "prompt"
    return result


def entry(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model's entry in the catalogue."""
    prices = model["prices_usd"]
    limits = {"context_tokens": model["context_window"]}
    retired = {"retired": True} if model.get("retired_from_newest_list") else {}
    if KIND_OF_MODE[model["mode"]] == "embedding":
        # Only texts are embedded; the prices of other kinds would never be used.
        return {
            "kind": "embedding",
            **limits,
            **retired,
            "rates": [{"input": pico(prices["input/token"])}],
        }
    modalities = output_modalities(model)
    priced_tiers = tiers(prices)
    return {
        **limits,
        "max_output_tokens": model["max_output"],
        **retired,
        **({"output_modalities": modalities} if modalities != ["text"] else {}),
        **lookups(model),
        "rates": rates(prices),
        **({"tiers": priced_tiers} if priced_tiers else {}),
    }


def layout(catalog: dict[str, Any]) -> str:
    """Write the catalogue as JSON with one line for the limits and one for each set of rates."""
    blocks = []
    for name, model in catalog["models"].items():
        plain = {key: value for key, value in model.items() if key not in {"rates", "tiers"}}
        lines = [f"  {json.dumps(name)}: {{", f"   {json.dumps(plain)[1:-1]},"]
        lines.append(f'   "rates": {rates_layout(model["rates"], indent=3)}')
        if "tiers" in model:
            parts = [
                f"    {json.dumps(tier)}: {rates_layout(some, indent=4)}"
                for tier, some in model["tiers"].items()
            ]
            lines[-1] += ","
            lines += ['   "tiers": {', ",\n".join(parts), "   }"]
        blocks.append("\n".join([*lines, "  }"]))
    head = json.dumps({key: value for key, value in catalog.items() if key != "models"}, indent=1)
    return head.removesuffix("\n}") + ',\n "models": {\n' + ",\n".join(blocks) + "\n }\n}\n"


def rates_layout(some: list[dict[str, int]], indent: int) -> str:
    """Write rates, one set a line if there are several."""
    sets = [json.dumps(one) for one in some]
    if len(sets) == 1:
        return f"[{sets[0]}]"
    line = "\n" + " " * indent
    return f"[{line} " + f",{line} ".join(sets) + f"{line}]"


# Models that the table does not have, or not in full, as Google's price page had them while they
# were offered; whoever still reaches one is charged rightly.
ALSO_LISTED: list[dict[str, Any]] = [
    {
        "id": "gemini-3-pro-preview",
        "mode": "chat",
        "context_window": 1_048_576,
        "max_output": 65_536,
        "prices_usd": {
            "input/token": Decimal("2e-6"),
            "input/token@>200k": Decimal("4e-6"),
            "cached_input/token": Decimal("2e-7"),
            "cached_input/token@>200k": Decimal("4e-7"),
            "output/token": Decimal("12e-6"),
            "output/token@>200k": Decimal("18e-6"),
        },
        "search_context_cost_per_query": {"any": Decimal("0.014")},
        "web_search_billing_unit": "per_query",
        "supports": {"web_search": True},
        "retired_from_newest_list": True,
    },
    {
        # 0.039 USD for an image of 1,290 tokens.
        "id": "gemini-2.0-flash-preview-image-generation",
        "mode": "image_generation",
        "context_window": 32_768,
        "max_output": 8_192,
        "prices_usd": {
            "input/token": Decimal("1e-7"),
            "output/token": Decimal("4e-7"),
            "output/image_token": Decimal("30e-6"),
        },
        "supported_output_modalities": ["text", "image"],
        "retired_from_newest_list": True,
    },
]


def main() -> None:
    """Read the table named on the command line and print the catalogue."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - the script, a path and a date
        sys.exit("usage: make_price_catalog.py PRICES.json DATE")
    table = json.loads(Path(sys.argv[1]).read_text(), parse_float=Decimal)
    models = sorted([*table["models"], *ALSO_LISTED], key=lambda model: str(model["id"]))
    catalog = {
        "version": sys.argv[2],
        "effective": sys.argv[2],
        "source": "Gemini list prices of ai.google.dev/gemini-api/docs/pricing, as collected in "
        "litellm 1.109.1 (MIT); USD x 1e12",
        "models": {model["id"]: entry(model) for model in models if is_served(model)},
    }
    sys.stdout.write(layout(catalog))


if __name__ == "__main__":
    main()
