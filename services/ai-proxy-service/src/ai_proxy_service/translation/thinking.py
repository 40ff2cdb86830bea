"""How hard a model should think: OpenAI's `reasoning_effort` as Gemini's `thinkingConfig`.

Gemini 2.5 takes a budget in tokens, Gemini 3 a level; both in one request are refused.
https://ai.google.dev/gemini-api/docs/openai (table of efforts) and
https://ai.google.dev/gemini-api/docs/thinking. What no document says is our choice: the
lowest setting that the model has where thinking can't be turned off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_proxy_service.translation.model_traits import model_behind

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class ThinkingTraits:
    """What a family of models takes: a setting for each effort, budget or level."""

    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, effort: str | None, *, summaries: bool = True) -> dict[str, Any] | None:
        """Return the `thinkingConfig` for an effort; None leaves the model alone.

        Summaries are asked for whenever the model may think, unless the client wants none: while
        it thinks, they are what brings reports of usage.
        """
        if not self.settings:
            return None
        if effort is None:
            return {"includeThoughts": True} if summaries else None
        return _setting(self.settings[effort], summaries=summaries)

    def config_for_tokens(self, tokens: int, *, summaries: bool) -> dict[str, Any] | None:
        """Return the `thinkingConfig` for a number of thinking tokens."""
        if not self.settings:
            return None
        highest = self.settings["max"]
        if isinstance(highest, int):
            lowest = self.settings["none"]
            budget = min(tokens, highest) if lowest == 0 else max(lowest, min(tokens, highest))
            return _setting(budget, summaries=summaries)
        fitting = (effort for effort, above in _TOKENS_OF_EFFORT if tokens <= above)
        return _setting(self.settings[next(fitting, "high")], summaries=summaries)


# Where a number of tokens is asked of a model that takes levels: the efforts that Google's own
# table gives such budgets for.
_TOKENS_OF_EFFORT = (("none", 0), ("low", 1024), ("medium", 8192))


def _setting(setting: int | str, *, summaries: bool) -> dict[str, Any]:
    if setting == 0:
        return {"thinkingBudget": 0}
    name = "thinkingLevel" if isinstance(setting, str) else "thinkingBudget"
    return {name: setting, **({"includeThoughts": True} if summaries else {})}


def _by_effort(*settings: int | str) -> ThinkingTraits:
    return ThinkingTraits(dict(zip(EFFORTS, settings, strict=True)))


_FLASH_2_5 = _by_effort(0, 1024, 1024, 8192, 24576, 24576, 24576)
_PRO_2_5 = _by_effort(128, 1024, 1024, 8192, 24576, 32768, 32768)
_FROM_MINIMAL = _by_effort("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH")
_FROM_LOW = _by_effort("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH")
_LOW_OR_HIGH = _by_effort("LOW", "LOW", "LOW", "HIGH", "HIGH", "HIGH", "HIGH")
_NONE = ThinkingTraits()

# Models that draw or speak: what they take is not documented, and left alone.
_WITHOUT_THINKING = ("-image", "-tts")
# By the beginning of the model's name, the longest one that fits.
_FAMILIES: Mapping[str, ThinkingTraits] = {
    "gemini-2.5-flash": _FLASH_2_5,
    "gemini-2.5-pro": _PRO_2_5,
    "gemini-3-pro": _LOW_OR_HIGH,
    "gemini-3-flash": _FROM_MINIMAL,
    "gemini-3.1-flash-lite": _FROM_MINIMAL,
    "gemini-3.5-flash": _FROM_MINIMAL,
    "gemini-3.5-flash-lite": _FROM_LOW,
    # Any other Gemini 3: these three levels are what all of them have.
    "gemini-3": _FROM_LOW,
    "gemini-4": _FROM_LOW,
}


def thinking_traits(model: str) -> ThinkingTraits:
    """Return what is known of a model's thinking; nothing for one that does not think."""
    if any(mark in model for mark in _WITHOUT_THINKING):
        return _NONE
    model = model_behind(model)
    fitting = (family for family in _FAMILIES if model.startswith(family))
    return _FAMILIES.get(max(fitting, key=len, default=""), _NONE)
