"""How hard to think: the whole table of models and efforts, and the other ways to ask."""

from typing import Any

import pytest

from support.chats import FLASH_2, FLASH_3, Json, assert_refused, config, refusal

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Google's table for its own endpoint, and our choices where it has none.
SETTINGS: dict[str, tuple[int | str, ...]] = {
    "2.5 Flash": (0, 1024, 1024, 8192, 24576, 24576, 24576),
    "2.5 Pro": (128, 1024, 1024, 8192, 24576, 32768, 32768),
    "from minimal": ("MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "from low": ("LOW", "LOW", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"),
    "low or high": ("LOW", "LOW", "LOW", "HIGH", "HIGH", "HIGH", "HIGH"),
}
MODELS = {
    "gemini-2.5-flash": "2.5 Flash",
    "gemini-2.5-flash-preview-09-2025": "2.5 Flash",
    "gemini-2.5-flash-lite": "2.5 Flash",
    "gemini-2.5-pro": "2.5 Pro",
    "gemini-3-flash-preview": "from minimal",
    "gemini-3.5-flash": "from minimal",
    "gemini-3.1-flash-lite": "from minimal",
    "gemini-3.1-pro-preview": "from low",
    "gemini-3-pro-preview": "low or high",
    "gemini-3.5-flash-lite": "from low",
    "gemini-3.6-flash": "from low",
    "gemini-3.7-flash": "from low",
    "gemini-3.8-flash": "from low",
    "gemini-3.9-unheard-of": "from low",
}
THINKING_TABLE = [
    (model, effort, setting)
    for model, family in MODELS.items()
    for effort, setting in zip(EFFORTS, SETTINGS[family], strict=True)
]


def thinking(model: str, **fields: Any) -> Json | None:
    found: Json | None = config(model, **fields).get("thinkingConfig")
    return found


def told(setting: int | str) -> Json:
    """Return the configuration for a setting; thoughts are wanted wherever there are any."""
    if setting == 0:
        return {"thinkingBudget": 0}
    name = "thinkingLevel" if isinstance(setting, str) else "thinkingBudget"
    return {name: setting, "includeThoughts": True}


@pytest.mark.parametrize(("model", "effort", "setting"), THINKING_TABLE)
def test_each_model_has_a_setting_for_each_effort(
    model: str, effort: str, setting: int | str
) -> None:
    assert thinking(model, reasoning_effort=effort) == told(setting)
    assert thinking(model, reasoning={"effort": effort}) == told(setting)


@pytest.mark.parametrize("model", MODELS)
def test_without_an_effort_the_model_thinks_as_it_likes_and_shows_it(model: str) -> None:
    assert thinking(model, reasoning_effort=None) == {"includeThoughts": True}


@pytest.mark.parametrize(
    "model", ["gemini-2.0-flash", "gemini-1.5-pro", "gemini-2.5-flash-image", "gemma-3-27b-it"]
)
@pytest.mark.parametrize("effort", [None, "none", "high"])
def test_models_that_do_not_think_are_not_told_how_to(model: str, effort: str | None) -> None:
    assert thinking(model, reasoning_effort=effort) is None


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        (FLASH_2, {"enabled": False}, {"thinkingBudget": 0}),
        (FLASH_3, {"enabled": False}, {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        (FLASH_2, {"enabled": True}, {"includeThoughts": True}),
        (FLASH_2, {}, {"includeThoughts": True}),
        (FLASH_2, {"effort": "low", "exclude": True}, {"thinkingBudget": 1024}),
        (FLASH_3, {"effort": "low", "exclude": True}, {"thinkingLevel": "LOW"}),
        (FLASH_2, {"exclude": False}, {"includeThoughts": True}),
        (FLASH_2, {"max_tokens": 2000}, {"thinkingBudget": 2000, "includeThoughts": True}),
        (FLASH_2, {"max_tokens": 99999}, {"thinkingBudget": 24576, "includeThoughts": True}),
        (FLASH_2, {"max_tokens": 0}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"max_tokens": 5}, {"thinkingBudget": 128, "includeThoughts": True}),
        (FLASH_3, {"max_tokens": 9000}, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (FLASH_3, {"max_tokens": 5000}, {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-2.0-flash", {"max_tokens": 5000}, None),
    ],
)
def test_openrouters_form_is_understood(model: str, reasoning: Json, expected: Json | None) -> None:
    assert thinking(model, reasoning=reasoning) == expected


def test_a_client_that_wants_no_thoughts_gets_none() -> None:
    assert not (thinking(FLASH_2, reasoning={"exclude": True}) or {}).get("includeThoughts")


@pytest.mark.parametrize(
    ("model", "limit", "effort", "setting"),
    [
        (FLASH_2, 1023, None, 0),
        ("gemini-2.5-pro", 100, None, 128),
        (FLASH_3, 100, None, "MINIMAL"),
        ("gemini-3.1-pro-preview", 100, None, "LOW"),
        (FLASH_2, 100, "high", 24576),
    ],
)
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_small_limit_is_not_spent_on_thinking_unless_that_was_asked_for(
    model: str, limit: int, effort: str | None, setting: int | str, name: str
) -> None:
    assert thinking(model, reasoning_effort=effort, **{name: limit}) == told(setting)


def test_a_limit_that_is_large_enough_leaves_the_model_alone() -> None:
    assert thinking(FLASH_2, max_tokens=1024) == {"includeThoughts": True}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"thinking_budget": 5}, {"thinkingBudget": 5}),
        (
            {"thinkingBudget": -1, "includeThoughts": False},
            {"thinkingBudget": -1, "includeThoughts": False},
        ),
        ({"thinking_level": "low"}, {"thinkingLevel": "LOW"}),
        ({"thinkingLevel": "THINKING_LEVEL_HIGH"}, {"thinkingLevel": "HIGH"}),
    ],
)
def test_googles_own_setting_is_passed_on(options: Json, expected: Json) -> None:
    found = thinking(FLASH_3, google={"thinking_config": options}) or {}

    assert expected.items() <= found.items()
    assert found.keys() - expected.keys() <= {"includeThoughts"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"max_tokens": -1}}, "reasoning.max_tokens"),
        (
            {"reasoning_effort": "low", "google": {"thinking_config": {"thinking_budget": 5}}},
            "reasoning_effort",
        ),
        (
            {"google": {"thinking_config": {"thinking_budget": 5, "thinking_level": "LOW"}}},
            "google.thinking_config",
        ),
        (
            {"google": {"thinkingConfig": {"thinkingLevel": "GIGANTIC"}}},
            "google.thinking_config.thinking_level",
        ),
    ],
)
def test_efforts_that_contradict_each_other_or_mean_nothing_are_refused(
    fields: Json, param: str
) -> None:
    assert_refused(refusal(**fields), param)
