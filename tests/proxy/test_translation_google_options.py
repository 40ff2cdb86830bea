"""Google's own options, wherever they stand and however they are written."""

from typing import Any

import pytest

from ai_proxy_service.translation.google_options import SAFETY_CATEGORIES
from support.chats import FLASH_3, Json, assert_refused, refusal, translate

HARASSMENT = "HARM_CATEGORY_HARASSMENT"


@pytest.fixture(params=["google", "extra_body"])
def place(request: pytest.FixtureRequest) -> str:
    """Where the options stand: both occur on the wire."""
    found: str = request.param
    return found


def with_options(place: str, options: Json) -> Json:
    """Return a request's fields with the options in their place."""
    return {"google": options} if place == "google" else {"extra_body": {"google": options}}


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, {}),
        ({"cached_content": "cachedContents/x"}, {"cachedContent": "cachedContents/x"}),
        ({"cachedContent": "cachedContents/x"}, {"cachedContent": "cachedContents/x"}),
        ({"cached_content": None, "tools": None}, {}),
        (
            {"safety_settings": [{"category": "HARASSMENT", "threshold": "OFF"}]},
            {"safetySettings": [{"category": HARASSMENT, "threshold": "OFF"}]},
        ),
        (
            {"safetySettings": [{"category": HARASSMENT, "threshold": "BLOCK_NONE"}]},
            {"safetySettings": [{"category": HARASSMENT, "threshold": "BLOCK_NONE"}]},
        ),
        ({"tools": [{"google_search": {}}]}, {"tools": [{"googleSearch": {}}]}),
        (
            {"tools": [{"googleSearch": {"timeRangeFilter": {"startTime": "x"}}}]},
            {"tools": [{"googleSearch": {"timeRangeFilter": {"startTime": "x"}}}]},
        ),
        ({"tools": [{"code_execution": None}]}, {"tools": [{"codeExecution": {}}]}),
        ({"tools": [{"urlContext": {}}]}, {"tools": [{"urlContext": {}}]}),
    ],
)
def test_each_option_has_its_place_in_the_body(place: str, options: Json, body: Json) -> None:
    translated = translate(FLASH_3, **with_options(place, options)).body

    assert {
        name: value
        for name, value in translated.items()
        if name not in {"contents", "generationConfig"}
    } == body


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"media_resolution": "HIGH"}, {"mediaResolution": "MEDIA_RESOLUTION_HIGH"}),
        (
            {"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"},
            {"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"},
        ),
        ({"top_k": 7}, {"topK": 7}),
        ({"topK": 7}, {"topK": 7}),
        (
            {"thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True}},
            {"thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True}},
        ),
    ],
)
def test_options_of_the_generation_stand_in_its_configuration(
    place: str, options: Json, config: Json
) -> None:
    translated = translate(FLASH_3, **with_options(place, options)).body

    assert config.items() <= translated["generationConfig"].items()


def test_googles_top_k_comes_before_the_other() -> None:
    assert translate(top_k=3, google={"top_k": 7}).body["generationConfig"]["topK"] == 7


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({"unheard_of": 1}, ""),
        ({"thinking_config": {"budget": 1}}, ".thinking_config"),
        ({"thinking_config": "much"}, ".thinking_config"),
        ({"thinking_config": {"thinking_budget": "much"}}, ".thinking_config.thinking_budget"),
        ({"safety_settings": [{"category": "X", "threshold": "LOW"}]}, None),
        ({"safety_settings": [{"category": "X"}]}, None),
        ({"safety_settings": {}}, ".safety_settings"),
        ({"media_resolution": "ULTRA"}, ".media_resolution"),
        ({"media_resolution": 3}, ".media_resolution"),
        ({"cached_content": 5}, ".cached_content"),
        ({"top_k": "x"}, ".top_k"),
        ({"tools": ["google_search"]}, None),
        ({"tools": 5}, ".tools"),
    ],
)
def test_what_is_not_an_option_is_refused(place: str, options: Json, within: str | None) -> None:
    error = refusal(FLASH_3, **with_options(place, options))

    where = "google" if place == "google" else "extra_body.google"
    assert error.field is not None
    assert error.field.startswith(where)
    assert within is None or error.field == f"{where}{within}"


@pytest.mark.parametrize("tool", [{}, {"shell": {}}, {"google_search": {}, "shell": {}}])
def test_a_tool_that_is_not_known_is_refused(tool: Json) -> None:
    assert_refused(refusal(google={"tools": [{"url_context": {}}, tool]}), "google.tools[1]")


def test_options_in_both_places_are_refused() -> None:
    options: Json = {"top_k": 1}

    assert_refused(refusal(google=options, extra_body={"google": options}), "google")


@pytest.mark.parametrize("extra_body", [{}, {"google": None}, {"other": 1}, None])
def test_an_extra_body_without_options_is_ignored(extra_body: Any) -> None:
    assert translate(extra_body=extra_body).body.keys() == {"contents", "generationConfig"}


def test_options_that_are_no_object_are_refused() -> None:
    assert refusal(extra_body={"google": "fast"}).field == "extra_body.google"
    assert refusal(google="fast").field == "google"


def test_a_model_that_can_not_search_here_is_not_asked_to() -> None:
    error = refusal("gemini-2.0-flash", google={"tools": [{"google_search": {}}]})
    assert_refused(error, "google.tools", "unsupported_parameter")
    error = refusal("gemini-2.0-flash", web_search_options={})
    assert_refused(error, "web_search_options", "unsupported_parameter")


def test_a_search_is_reckoned_with_before_it_is_made() -> None:
    plain, searching = translate(FLASH_3), translate(FLASH_3, web_search_options={})

    assert plain.lookups_pico == 0
    assert searching.lookups_pico > 0
    assert plain.prompt_bound_tokens is not None
    assert searching.prompt_bound_tokens is not None
    assert searching.prompt_bound_tokens > plain.prompt_bound_tokens + 10_000


def test_the_operators_safety_filter_holds_where_the_request_says_nothing() -> None:
    body = translate(
        safety_threshold="BLOCK_ONLY_HIGH",
        google={"safety_settings": [{"category": "harassment", "threshold": "OFF"}]},
    ).body

    settings = {item["category"]: item["threshold"] for item in body["safetySettings"]}
    assert settings == {
        **dict.fromkeys(SAFETY_CATEGORIES, "BLOCK_ONLY_HIGH"),
        HARASSMENT: "OFF",
    }
    assert len(settings) == 4
