"""What Gemini's models take, by generation: facts that the translation depends on.

From https://ai.google.dev/gemini-api/docs (function calling, thought signatures, structured
output, and what each model's page says of its parameters).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?(?!\d)")
_THIRD = (3, 0)
# From here on temperature, top-p and top-k have no effect, and are to be refused some day.
_WITHOUT_SAMPLING = (3, 6)
_ALSO_WITHOUT_SAMPLING = "gemini-3.5-flash-lite"
# What the moving names stand for today.
_LATEST = {
    "gemini-flash-latest": "gemini-3.6-flash",
    "gemini-flash-lite-latest": _ALSO_WITHOUT_SAMPLING,
    "gemini-pro-latest": "gemini-3.1-pro-preview",
}
_CANDIDATES_MAX = 8


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What one model takes.

    Attributes:
        is_third: Gemini 3 or later: thought signatures must come back with function calls, which
            can be combined with JSON answers and with Google's own tools; images may stand in
            results, each with a resolution of its own.
        samples: temperature, top-p and top-k have an effect.
        candidates_max: how many answers it gives side by side.
    """

    is_third: bool
    samples: bool
    candidates_max: int


@lru_cache(maxsize=1024)
def model_traits(model: str) -> ModelTraits:
    """Return what is known of a model; one without a number in its name counts as an old one."""
    model = model_behind(model)
    found = _GENERATION.match(model)
    generation = (int(found[1]), int(found[2] or 0)) if found else (1, 0)
    is_third = generation >= _THIRD
    return ModelTraits(
        is_third=is_third,
        samples=generation < _WITHOUT_SAMPLING and not model.startswith(_ALSO_WITHOUT_SAMPLING),
        candidates_max=1 if is_third else _CANDIDATES_MAX,
    )


def model_behind(model: str) -> str:
    """Return what a moving name stands for; any other name is its own."""
    return _LATEST.get(model, model)
