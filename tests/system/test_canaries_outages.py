"""What an outage, a mistake of ours or a command says, without a key, a password or a prompt."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.canaries import PROMPT, assert_nothing_leaked, plant_settings
from support.loud import (
    CLIENT_KEY,
    GEMINI_KEY,
    PASSWORD,
    TALKATIVE,
    ask,
    assert_silent,
    loud_proxy_settings,
    send,
)
from support.postgres_cluster import free_port
from support.processes import ServiceProcess
from support.stack import ADMIN_KEY, SERVICE_KEY

TESTS = Path(__file__).resolve().parents[1]
TIMEOUT_SECONDS = 60


def _nowhere(scheme: str, path: str = "") -> str:
    return f"{scheme}://app:{PASSWORD}@127.0.0.1:{free_port()}{path}"


def _closed() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_a_proxy_without_anything_behind_it_keeps_its_secrets(tmp_path: Path) -> None:
    stores = ("CALL_MEMORY_URI", "ANSWER_STORE_URI", "RATE_LIMIT_STORAGE_URI")
    env = {
        **loud_proxy_settings({"simulator": _closed(), "ledger": _closed()}, tmp_path),
        **{name: _nowhere("redis") for name in stores},
        "USAGE_LOG_URL": _nowhere("postgresql", "/usage"),
        "RATE_LIMIT_ENABLED": "true",
    }

    with ServiceProcess("ai-proxy-service", env, cwd=tmp_path) as process:
        assert ask(process, user="ann").status_code == 503
        keyed = {"idempotency-key": "k-1"}
        body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": PROMPT}]}
        assert send(process, "/v1/chat/completions", json=body, headers=keyed).status_code == 503
        assert_silent(process)


def test_gemini_that_can_t_be_reached_is_told_without_the_prompt(tmp_path: Path) -> None:
    unbilled = {
        "CREDITS_SERVICE_URL": "",
        "CREDITS_SERVICE_API_KEY": "",
        "USAGE_LOG_URL": _nowhere("postgresql", "/usage"),
        "CALL_MEMORY_URI": _nowhere("redis"),
        "ANSWER_STORE_URI": "memory://",
    }
    env = loud_proxy_settings({"simulator": _closed(), "ledger": ""}, tmp_path, **unbilled)

    with ServiceProcess("ai-proxy-service", env, cwd=tmp_path) as process:
        for stream in (False, True):
            assert "provider failed" in ask(process, stream=stream).text
        process.wait_for_event(event="gemini_unreachable")
        assert_silent(process)


def test_a_mistake_of_ours_is_logged_without_what_it_held(tmp_path: Path) -> None:
    unbilled = {"CREDITS_SERVICE_URL": "", "CREDITS_SERVICE_API_KEY": ""}
    env = {
        **loud_proxy_settings({"simulator": _closed(), "ledger": ""}, tmp_path, **unbilled),
        "PYTHONPATH": str(TESTS),
    }

    with ServiceProcess("python", env, "-m", "support.failing_gateway", cwd=tmp_path) as process:
        assert ask(process).status_code == 500
        assert '"error"' in ask(process, stream=True).text
        keyed = {"idempotency-key": "k-2"}
        body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": PROMPT}]}
        assert send(process, "/v1/chat/completions", json=body, headers=keyed).status_code == 500
        assert_silent(process)

    raised = [line for line in process.lines if "none of them was expected" in line]
    assert len(raised) >= 3


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{PASSWORD}@127.0.0.1:1/ledger",
        f"postgresql://app:{PASSWORD}/y@127.0.0.1:1/ledger?sslmode={PASSWORD}",
    ],
)
def test_a_ledger_that_can_t_be_opened_keeps_its_password(url: str, tmp_path: Path) -> None:
    keys = {"API_KEYS": f"proxy:{SERVICE_KEY}", "ADMIN_API_KEYS": f"operator:{ADMIN_KEY}"}
    env = {**keys, **TALKATIVE, "DATABASE_URL": url, "DATABASE_START_TIMEOUT_SECONDS": "0"}
    plant_settings({"DATABASE_URL": f"postgresql://app:{PASSWORD}@x/"})

    process = ServiceProcess("credits-service", env, cwd=tmp_path)

    assert process.wait() != 0
    assert "DATABASE_URL" in "\n".join(process.lines)


COMMANDS = [
    ("credits", "topup", "ann", "5", "--yes"),
    ("credits", "migrate"),
    ("credits", "export", "--output", "ledger.jsonl"),
    ("ai-proxy-service", "usage", "export", "--from", "2026-01-01", "--to", "2026-02-01"),
    ("credits-service",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_keep_the_secrets_of_their_settings(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """Nothing behind them answers, and the services find a setting wrong."""
    env = {
        "API_KEYS": f"tester:{CLIENT_KEY}",
        "ADMIN_API_KEYS": f"operator:{ADMIN_KEY}",
        "CREDITS_API_KEY": ADMIN_KEY,
        "GEMINI_API_KEY": GEMINI_KEY,
        "CREDITS_SERVICE_URL": _closed(),
        "CREDITS_SERVICE_API_KEY": SERVICE_KEY,
        "DATABASE_URL": _nowhere("postgresql", "/ledger"),
        "USAGE_LOG_URL": _nowhere("postgresql", "/usage"),
        "DATABASE_START_TIMEOUT_SECONDS": "0",
        "PORT": "eighty",
    }
    plant_settings(env)

    code, output = _run(command, env, tmp_path)

    assert code != 0, output
    assert_nothing_leaked([(f"the output of {' '.join(command)}", output)])


def _run(command: tuple[str, ...], env: Mapping[str, str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        env={"PATH": os.environ["PATH"], **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
