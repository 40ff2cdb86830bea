"""Settings that can't be used end the start with one clear line for each."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service_kit.settings import CommonSettings, dotenv_problems, load_settings
from support.kit_app import KEY, KitSettings, ProcessSettings


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder, without the developer's own settings."""
    monkeypatch.chdir(tmp_path)
    for name in CommonSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("API_KEYS", KEY)


def _refusal() -> str:
    with pytest.raises(SystemExit) as caught:
        load_settings(ProcessSettings)
    return str(caught.value.code)


def _problems(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "http", "valid integer"),
        ("PORT", "65536", "from 0 to 65535"),
        ("PORT", "-1", "from 0 to 65535"),
        ("WORKERS", "0", "greater than or equal to 1"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO'"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("AUTH_ENABLED", "perhaps", "valid boolean"),
        ("AUTH_EXEMPT_PATHS", "/health,metrics", "'metrics' is not a path"),
        ("RATE_LIMIT_PER_MINUTE", "0", "greater than or equal to 1"),
        ("RATE_LIMIT_PER_MINUTE", "many", "valid integer"),
        ("RATE_LIMIT_STORAGE_URI", "localhost:6379", "redis://host:port/db"),
        ("RATE_LIMIT_STORAGE_URI", "async+redis://x", "redis://host:port/db"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1,proxy", "'proxy' is neither an IP address"),
        ("CORS_ALLOWED_ORIGINS", "*", "'*' is not accepted"),
        ("CORS_ALLOWED_ORIGINS", "https://a.test,https://*.b.test", "'*' is not accepted"),
        ("CORS_ALLOWED_ORIGINS", "app.company.com", "is not an origin"),
        ("CORS_ALLOWED_ORIGINS", "https://app.company.com/", "is not an origin"),
        ("MAX_BODY_BYTES", "10", "greater than or equal to 1024"),
        ("DRAIN_SECONDS", "soon", "valid integer"),
    ],
)
def test_a_bad_value_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)

    refusal = _refusal()

    assert len(_problems(refusal)) == 1
    assert _problems(refusal)[0].startswith(f"  - {name}: ")
    assert says in refusal
    assert "Traceback" not in refusal


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("WORKERS", "y")

    assert len(_problems(_refusal())) == 2


def test_a_service_without_keys_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "")

    refusal = _refusal()

    assert "API_KEYS is empty" in refusal
    assert "AUTH_ENABLED=false" in refusal


def test_a_placeholder_key_refuses_to_start_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_KEYS", "change-me-0a1b2c3d4e5f")

    refusal = _refusal()

    assert "API_KEYS, key number 1 is a placeholder" in refusal
    assert "0a1b2c3d4e5f" not in refusal


def test_no_key_is_needed_where_authentication_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "")
    monkeypatch.setenv("AUTH_ENABLED", "false")

    assert load_settings(ProcessSettings).service_keys() == []


def test_a_secret_value_never_stands_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_STORAGE_URI", "http://user:hunter2@store")

    assert "hunter2" not in _refusal()


def test_good_values_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PORT": " 8080 ",
        "LOG_LEVEL": "warning",
        "AUTH_EXEMPT_PATHS": "/health, /ready ,",
        "CORS_ALLOWED_ORIGINS": "https://a.test, http://localhost:3000,tauri://localhost",
        "RATE_LIMIT_STORAGE_URI": "valkeys://user:pass@store:6379/0",
        "FORWARDED_ALLOW_IPS": "10.0.0.0/8, 192.0.2.1,::1",
    }.items():
        monkeypatch.setenv(name, value)

    settings = load_settings(ProcessSettings)

    assert settings.port == 8080
    assert settings.log_level == "WARNING"
    assert settings.auth_exempt_paths == ("/health", "/ready")
    assert settings.cors_allowed_origins == (
        "https://a.test",
        "http://localhost:3000",
        "tauri://localhost",
    )


def test_a_dotenv_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1111\nWORKERS=2\nUNRELATED=x\n", encoding="utf-8")
    monkeypatch.setenv("WORKERS", "3")

    settings = load_settings(ProcessSettings)

    assert (settings.port, settings.workers) == (1111, 3)


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "")

    assert load_settings(ProcessSettings).log_level == "INFO"


def test_a_dotenv_line_that_can_not_be_read_is_named() -> None:
    """The library alone would skip it, and the service would run with half of the settings."""
    Path(".env").write_text('PORT=1111\nGOOD="open\nWORKERS=2\n', encoding="utf-8")

    assert ".env, line 2" in _refusal()


def test_a_dotenv_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"PORT=1111\nNAME=\xff\xfe\n")

    assert ".env is not UTF-8 text" in _refusal()


def test_a_dotenv_that_is_a_folder_is_named() -> None:
    Path(".env").mkdir()

    assert ".env can't be read" in _refusal()


def test_no_dotenv_file_is_no_problem() -> None:
    assert dotenv_problems([Path(".env")]) == []


def test_settings_do_not_change_after_the_start() -> None:
    settings = KitSettings(api_keys=KEY)

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # that it is refused is the point


def test_printing_settings_shows_no_secret() -> None:
    settings = KitSettings(api_keys=KEY, rate_limit_storage_uri="redis://:hunter2@store:6379")

    shown = repr(settings) + str(settings)

    assert KEY not in shown
    assert "hunter2" not in shown
