"""What the proxy refuses to start with, and that every setting is documented."""

from pathlib import Path

import pytest

from ai_proxy_service.settings import ProxySettings
from support.processes import ServiceProcess

ROOT = Path(__file__).parents[2]
GOOD = {
    "API_KEYS": "tester:sk-3f9a1c7b5e2d4860",
    "GEMINI_API_KEY": "AIzaTest4821",
    "CREDITS_SERVICE_URL": "",
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"API_KEYS": ""}, "API_KEYS is empty"),
        ({"API_KEYS": "changeme-changeme"}, "placeholder"),
        ({"API_KEYS": "short"}, "shorter than 16"),
        ({"GEMINI_API_KEY": ""}, "GEMINI_API_KEY"),
        ({"GEMINI_BASE_URL": "gemini.example"}, "GEMINI_BASE_URL: must begin with http"),
        ({"GEMINI_CLIENT": "grpc"}, "GEMINI_CLIENT"),
        ({"CREDITS_SERVICE_URL": "http://127.0.0.1:1"}, "belong together"),
        ({"CREDITS_SERVICE_API_KEY": "sk-3f9a1c7b5e2d4860"}, "belong together"),
        ({"PRICE_CATALOG_PATH": "nowhere.json"}, "PRICE_CATALOG_PATH"),
        ({"PRICE_MARKUP": "0"}, "PRICE_MARKUP"),
        ({"MODEL_ALIASES": "a"}, "MODEL_ALIASES"),
        ({"HOLD_POLICY": "none"}, "HOLD_POLICY"),
        ({"ON_DISCONNECT": "ignore"}, "ON_DISCONNECT"),
        ({"ANSWER_STORE_URI": "file:///answers"}, "ANSWER_STORE_URI"),
        ({"ANSWER_STORE_URI": "memory://", "WORKERS": "2"}, "ANSWER_STORE_URI: memory://"),
        ({"PORT": "eighty"}, "PORT"),
        ({"CORS_ALLOWED_ORIGINS": "*"}, "CORS_ALLOWED_ORIGINS"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_name(
    change: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    process = ServiceProcess("ai-proxy-service", {**GOOD, **change}, cwd=tmp_path)

    assert process.wait() != 0
    output = "\n".join(process.lines)
    assert complaint in output
    assert "Traceback" not in output


def test_authentication_is_only_off_when_that_is_said_outright(tmp_path: Path) -> None:
    env = {**GOOD, "API_KEYS": "", "AUTH_ENABLED": "false"}

    with ServiceProcess("ai-proxy-service", env, cwd=tmp_path) as process:
        assert process.url


def test_a_missing_credits_service_is_said_in_the_log(tmp_path: Path) -> None:
    with ServiceProcess("ai-proxy-service", GOOD, cwd=tmp_path) as process:
        assert "charges are only logged" in process.wait_for_log("billing_not_enforced")


@pytest.mark.parametrize(
    "document", ["services/ai-proxy-service/.env.example", "DEPLOYMENT_GUIDE.md"]
)
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text()

    missing = [name.upper() for name in ProxySettings.model_fields if name.upper() not in text]

    assert missing == []
