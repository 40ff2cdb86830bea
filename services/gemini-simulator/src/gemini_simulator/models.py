"""The models that the simulator serves, as Gemini's own list describes them.

Limits and methods are those of a recorded `ListModels` answer (2026-08); models newer than it
take the values of their family. Thinking ranges follow Google's documentation.
"""

from dataclasses import dataclass
from typing import Any

_GENERATION_METHODS = (
    "generateContent",
    "countTokens",
    "createCachedContent",
    "batchGenerateContent",
)
_EMBEDDING_METHODS = ("embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent")


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks.

    Attributes:
        minimum: smallest `thinkingBudget` other than off and dynamic.
        maximum: largest `thinkingBudget`.
        can_be_off: whether budget 0 is allowed.
        levels: allowed `thinkingLevel` values; empty where levels are unknown (2.5).
        default_tokens: what the simulator thinks unasked.
    """

    minimum: int
    maximum: int
    can_be_off: bool
    levels: frozenset[str] = frozenset()
    default_tokens: int = 32


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the list, with what decides its behaviour on the wire."""

    name: str
    display_name: str
    version: str
    description: str
    generation: tuple[int, int]
    input_token_limit: int = 1_048_576
    output_token_limit: int = 65_536
    methods: tuple[str, ...] = _GENERATION_METHODS
    thinking: Thinking | None = None
    top_k: int | None = 64
    dimensions: int = 0
    signs_calls: bool = True
    serves: str = ""  # what `modelVersion` says, where it differs from the name

    @property
    def is_gemini_3(self) -> bool:
        """Whether ids, signatures and levels follow the third generation."""
        return self.generation[0] >= 3  # noqa: PLR2004 - the generation's number

    @property
    def reported_name(self) -> str:
        """Return the `modelVersion` of answers."""
        return self.serves or self.name

    def wire(self) -> dict[str, Any]:
        """Return the JSON form of `models.get`."""
        described: dict[str, Any] = {
            "name": f"models/{self.name}",
            "version": self.version,
            "displayName": self.display_name,
            "description": self.description,
            "inputTokenLimit": self.input_token_limit,
            "outputTokenLimit": self.output_token_limit,
            "supportedGenerationMethods": list(self.methods),
        }
        if self.top_k is not None:
            described |= {"temperature": 1, "topP": 0.95, "topK": self.top_k, "maxTemperature": 2}
        if self.thinking is not None:
            described["thinking"] = True
        return described


_BUDGET_25 = Thinking(minimum=1, maximum=24_576, can_be_off=True)
_LOW_TO_HIGH = frozenset({"LOW", "MEDIUM", "HIGH"})


def _levels(*, minimal: bool, default_tokens: int) -> Thinking:
    levels = _LOW_TO_HIGH | {"MINIMAL"} if minimal else _LOW_TO_HIGH
    return Thinking(1, 32_768, can_be_off=False, levels=levels, default_tokens=default_tokens)


def _flash_3(name: str, version: str, thinking: Thinking, serves: str = "") -> Model:
    title = name.replace("-", " ").title()
    major, _, minor = name.split("-")[1].partition(".")
    return Model(
        name=name,
        display_name=title,
        version=version,
        description=title,
        generation=(int(major), int(minor or 0)),
        thinking=thinking,
        serves=serves,
    )


def _alias(name: str, of: Model) -> Model:
    title = name.replace("-", " ").title().replace("Flash Lite", "Flash-Lite")
    return Model(
        name=name,
        display_name=title,
        version=title,
        description=f"Latest release of {title.removesuffix(' Latest')}",
        generation=of.generation,
        thinking=of.thinking,
        serves=of.name,
    )


def _embedding(name: str, version: str, input_token_limit: int, description: str) -> Model:
    return Model(
        name=name,
        display_name=name.replace("-", " ").title(),
        version=version,
        description=description,
        generation=(2, 0),
        input_token_limit=input_token_limit,
        output_token_limit=1,
        methods=_EMBEDDING_METHODS,
        top_k=None,
        dimensions=3072,
    )


_FLASH_36 = _flash_3(
    "gemini-3.6-flash", "3.6-flash-07-2026", _levels(minimal=False, default_tokens=32)
)
_FLASH_LITE_35 = _flash_3(
    "gemini-3.5-flash-lite", "3.5-flash-lite-07-2026", _levels(minimal=False, default_tokens=16)
)
_PRO_31 = _flash_3(
    "gemini-3.1-pro-preview",
    "3.1-pro-preview-01-2026",
    _levels(minimal=False, default_tokens=64),
)
_CATALOGUE = (
    Model(
        name="gemini-2.5-flash",
        display_name="Gemini 2.5 Flash",
        version="001",
        description="Mid-size multimodal model with a context of a million tokens",
        generation=(2, 5),
        thinking=_BUDGET_25,
    ),
    Model(
        name="gemini-2.5-pro",
        display_name="Gemini 2.5 Pro",
        version="2.5",
        description="Stable release of Gemini 2.5 Pro",
        generation=(2, 5),
        thinking=Thinking(128, 32_768, can_be_off=False, default_tokens=64),
    ),
    Model(
        name="gemini-2.0-flash",
        display_name="Gemini 2.0 Flash",
        version="2.0",
        description="Gemini 2.0 Flash",
        generation=(2, 0),
        output_token_limit=8192,
        top_k=40,
        signs_calls=False,
    ),
    Model(
        name="gemini-2.5-flash-lite",
        display_name="Gemini 2.5 Flash-Lite",
        version="001",
        description="Stable version of Gemini 2.5 Flash-Lite",
        generation=(2, 5),
        thinking=Thinking(512, 24_576, can_be_off=True, default_tokens=0),
        signs_calls=False,
    ),
    _alias("gemini-flash-latest", _FLASH_36),
    _alias("gemini-flash-lite-latest", _FLASH_LITE_35),
    _alias("gemini-pro-latest", _PRO_31),
    _flash_3(
        "gemini-3-flash-preview",
        "3-flash-preview-12-2025",
        _levels(minimal=True, default_tokens=64),
    ),
    _PRO_31,
    _flash_3(
        "gemini-3.1-flash-lite", "3.1-flash-lite-05-2026", _levels(minimal=True, default_tokens=8)
    ),
    _flash_3("gemini-3.5-flash", "3.5-flash-05-2026", _levels(minimal=True, default_tokens=32)),
    _FLASH_LITE_35,
    _FLASH_36,
    _flash_3("gemini-3.7-flash", "3.7-flash", _levels(minimal=False, default_tokens=32)),
    _flash_3("gemini-3.8-flash", "3.8-flash", _levels(minimal=False, default_tokens=32)),
    _embedding(
        "gemini-embedding-001", "001", 2048, "Obtain a distributed representation of a text."
    ),
    _embedding(
        "gemini-embedding-2",
        "2",
        8192,
        "Obtain a distributed representation of multimodal content.",
    ),
)
MODELS = {model.name: model for model in _CATALOGUE}
