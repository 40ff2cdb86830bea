"""What Google's SKUs of the Gemini API mean: which model, which service tier, which kind of usage.

Google names them in several ways, for instance ``Generate content input token count gemini 2.5
flash short input text``, ``Generate_content cached text input token count for gemini 3 flash`` or
``Generate content output token count gemini 3.7 flash text flex``.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

ALL_MODELS = "all models"
STANDARD_TIER = "standard"
_CACHE_STORAGE = "cache_storage"

_MODALITIES = frozenset({"text", "image", "audio", "video", "document"})
_TIERS = frozenset({"batch", "flex", "priority"})
# Said of prompts (their size class) and of thinking: no part of a model's name.
_NOISE = frozenset({"short", "long", "input", "output", "thinking", "non-thinking"})
_CACHED = frozenset({"cached", "caching"})
_DIRECTIONS = frozenset({"input", "output"})

_TOKENS = re.compile(r"(?:generate ?content|embed ?content) (?P<before>[a-z ]+) token count (.+)")
_STORAGE = re.compile(r"(?:generate ?content )?cached content storage token hours?(?: (.+))?")
_LOOKUPS = re.compile(
    r"(?:generate ?content |grounding with )(?:google )?(search|maps)\b(?!.*\btoken\b).*"
)
_MODEL = re.compile(r"gemini-[a-z0-9.-]+")

# `-preview`, `-preview-09-2025`, `-preview-04-17`, `-exp-0801`: Google bills them as the model.
_PREVIEW = re.compile(r"-(?:preview|exp)(?:-\d{2}-\d{2}(?:\d{2})?|-\d{4})?(?=-|$)")
_VERSION = re.compile(r"(?<=^gemini-)(\d[a-z0-9.-]*?)-(?:00\d|latest|customtools)$")
_BILLED_AS = {
    "gemini-2.5-flash-native-image-generation": "gemini-2.5-flash-image",
    "gemini-3.1-pro": "gemini-3-pro",
}


class Sku(NamedTuple):
    """What is billed.

    Attributes:
        model: the model as Google bills it, or `ALL_MODELS` where it does not say.
        tier: the service tier.
        kind: ``input``, ``cached_input``, ``input_audio``, ``cached_input_audio``, ``output``
            (thinking is in it), ``output_audio``, ``output_image``, ``search``, ``maps`` or
            ``cache_storage``.
    """

    model: str
    tier: str
    kind: str


def sku_of(description: str) -> Sku | None:
    """Read the description of a SKU; None if it is not known what it means."""
    text = " ".join(re.split(r"[\s_]+", description.strip().lower()))
    if found := _TOKENS.fullmatch(text):
        return _tokens(found["before"].split(), found[2].removeprefix("for ").split())
    if found := _STORAGE.fullmatch(text):
        model, tier = _model_and_tier((found[1] or "").split())
        return Sku(model or ALL_MODELS, tier, _CACHE_STORAGE)
    if found := _LOOKUPS.fullmatch(text):
        return Sku(ALL_MODELS, STANDARD_TIER, found[1])
    return None


def _tokens(before: list[str], after: list[str]) -> Sku | None:
    direction = next((word for word in before if word in _DIRECTIONS), None)
    if direction is None or not {*before} <= _DIRECTIONS | _MODALITIES | _CACHED:
        return None
    modality = next((word for word in before if word in _MODALITIES), None)
    words = [word for word in after if word not in _NOISE | _CACHED]
    last = next((word for word in reversed(words) if word not in _TIERS), "")
    if modality is None and last in _MODALITIES:
        modality = last
        place = len(words) - 1 - words[::-1].index(last)
        # Only models that are called so draw: there the word is the model's too.
        if direction == "input" or last != "image" or words.count("image") > 1:
            del words[place]
    model, tier = _model_and_tier(words)
    if model is None:
        return None
    cached = not _CACHED.isdisjoint([*before, *after])
    return Sku(model, tier, _kind(direction, modality or "text", cached=cached))


def _kind(direction: str, modality: str, *, cached: bool) -> str:
    if direction == "output":
        return f"output_{modality}" if modality in {"audio", "image"} else "output"
    kind = "cached_input" if cached else "input"
    return f"{kind}_audio" if modality == "audio" else kind


def _model_and_tier(words: list[str]) -> tuple[str | None, str]:
    tier = next((word for word in words if word in _TIERS), STANDARD_TIER)
    name = "-".join(word for word in words if word not in _TIERS)
    return (billed_model(name) if _MODEL.fullmatch(name) else None), tier


def billed_model(model: str, aliases: Mapping[str, str] | None = None) -> str:
    """Return the name that Google bills a model under.

    Args:
        model: its id, or how a SKU calls it.
        aliases: what moving names such as ``gemini-flash-latest`` stood for.
    """
    model = (aliases or {}).get(model, model)
    name = _VERSION.sub(r"\1", _PREVIEW.sub("", model))
    return _BILLED_AS.get(name, name)
