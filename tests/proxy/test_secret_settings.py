"""Secrets that can't be real, and wrong ones, are refused at the start, by name and never shown."""

import pytest

from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from service_kit.settings import load_settings

KEY = "sk-3f9a1c7b5e2d4860"
OTHER = "sk-8b1e7d5a3c2f4960"
PROXY = {
    "API_KEYS": f"tester:{KEY}",
    "GEMINI_API_KEY": "AIzaTest4821",
    "CREDITS_SERVICE_URL": "http://127.0.0.1:8001",
    "CREDITS_SERVICE_API_KEY": OTHER,
}
CREDITS = {
    "API_KEYS": f"proxy:{KEY}",
    "ADMIN_API_KEYS": f"operator:{OTHER}",
    "WEBHOOK_URL": "https://hooks.example/x",
    "WEBHOOK_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
}
PLACEHOLDERS = [
    "changeme",
    "change-me-please-0a1b2c",
    "your-api-key-here",
    "your-gemini-api-key",
    "<Google's key>",
    "<key>",
    "GEMINI_API_KEY",
    "put-your-secret-here-0a1b2c",
    "paste key here",
    "xxxxxxxxxxxxxxxxxxxxxxxx",
    "AIzaXXXXXXXXXXXXXXXXXXXX",
    "sk-…",
]


def _refusal(
    settings_class: type[ProxySettings | CreditsSettings], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setitem(settings_class.model_config, "env_file", None)
    with pytest.raises(SystemExit) as ended:
        load_settings(settings_class)
    return str(ended.value)


def _set(monkeypatch: pytest.MonkeyPatch, *environments: dict[str, str]) -> None:
    for environment in environments:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)


def test_good_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, PROXY)
    assert load_settings(ProxySettings).gemini_keys() == ("AIzaTest4821",)

    _set(monkeypatch, CREDITS)
    assert load_settings(CreditsSettings).webhook_target() is not None


@pytest.mark.parametrize("placeholder", PLACEHOLDERS)
@pytest.mark.parametrize("setting", ["GEMINI_API_KEY", "CREDITS_SERVICE_API_KEY", "API_KEYS"])
def test_the_proxy_refuses_placeholders(
    setting: str, placeholder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, PROXY, {setting: placeholder})

    said = _refusal(ProxySettings, monkeypatch)

    assert setting in said
    assert "is a placeholder" in said
    assert said.count(placeholder) == (setting == placeholder)


@pytest.mark.parametrize("setting", ["API_KEYS", "ADMIN_API_KEYS", "WEBHOOK_SECRET"])
@pytest.mark.parametrize("placeholder", [*PLACEHOLDERS[:6], f"whsec_{'A' * 32}"])
def test_the_credits_service_refuses_placeholders(
    setting: str, placeholder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, CREDITS, {setting: placeholder})

    said = _refusal(CreditsSettings, monkeypatch)

    assert setting in said
    assert "is a placeholder" in said
    assert placeholder not in said


def test_a_secret_whose_text_is_a_placeholder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, CREDITS, {"WEBHOOK_SECRET": "whsec_changemechangemechangemechangeme"})

    assert "WEBHOOK_SECRET is a placeholder" in _refusal(CreditsSettings, monkeypatch)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"API_KEYS": "hunter2"}, "API_KEYS, key number 1 is shorter than 16"),
        ({"CREDITS_SERVICE_API_KEY": "hunter2"}, "CREDITS_SERVICE_API_KEY is shorter than 16"),
        ({"CREDITS_SERVICE_API_KEY": f"hunter2:{KEY}"}, "one key without a name"),
        ({"CREDITS_SERVICE_API_KEY": f"hunter2-{KEY},{OTHER}"}, "one key without a name"),
        ({"GEMINI_API_KEY": ",,"}, "GEMINI_API_KEY"),
        ({"GEMINI_BASE_URL": "https://me:hunter2@gemini.example"}, "GEMINI_BASE_URL"),
        ({"CREDITS_SERVICE_URL": "https://ledger.example?key=hunter2"}, "CREDITS_SERVICE_URL"),
        ({"CALL_MEMORY_URI": "http://hunter2"}, "CALL_MEMORY_URI"),
        ({"CALL_MEMORY_URI": "redis://app:hunter2/x@store"}, "CALL_MEMORY_URI"),
        ({"ANSWER_STORE_URI": "redis://app:hunter2?x@store:1"}, "ANSWER_STORE_URI"),
        ({"RATE_LIMIT_STORAGE_URI": "redis://app:hunter2/@store"}, "RATE_LIMIT_STORAGE_URI"),
        ({"RATE_LIMIT_STORAGE_URI": "hunter2"}, "RATE_LIMIT_STORAGE_URI"),
        ({"USAGE_LOG_URL": "postgresql://app:hunter2/x@h:1/d"}, "USAGE_LOG_URL"),
        ({"USAGE_LOG_URL": "mysql://app:hunter2@h/d"}, "USAGE_LOG_URL"),
    ],
)
def test_the_proxy_names_what_is_wrong_and_does_not_show_it(
    change: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, PROXY, change)

    said = _refusal(ProxySettings, monkeypatch)

    assert complaint in said
    assert "hunter2" not in said
    assert KEY not in said


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ADMIN_API_KEYS": "operator:hunter2"}, "ADMIN_API_KEYS, key number 1 is shorter"),
        ({"ADMIN_API_KEYS": f"operator:{KEY}"}, "ADMIN_API_KEYS repeats a key"),
        ({"WEBHOOK_SECRET": "hunter2"}, "WEBHOOK_SECRET"),
        ({"WEBHOOK_SECRET": "whsec_hunter2"}, "WEBHOOK_SECRET"),
        ({"WEBHOOK_URL": "https://me:hunter2@hooks.example"}, "WEBHOOK_URL"),
        ({"DATABASE_URL": "hunter2"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://app:x@hunter2@h:1/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://app:x@hunter2@h:1,i:1/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://app:pw@h:hunter2/d"}, "DATABASE_URL"),
    ],
)
def test_the_credits_service_names_what_is_wrong_and_does_not_show_it(
    change: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, CREDITS, change)

    said = _refusal(CreditsSettings, monkeypatch)

    assert complaint in said
    assert "hunter2" not in said
    assert KEY not in said
