"""Starting: what can't work is refused with one line that says what to do."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from credits.client import ADMIN_KEY, SERVICE_KEY, CreditsClient, app_of, credits_process
from credits_service.main import build_app
from credits_service.settings import CreditsSettings
from support.live_server import live_server

COMMAND = Path(sys.executable).parent / "credits-service"
GOOD = {"API_KEYS": f"tester:{SERVICE_KEY}", "PORT": "0", "LOG_FORMAT": "json"}


def _refusal(folder: Path, **settings: str) -> str:
    """Start the service, which must refuse, and return what it says."""
    ended = subprocess.run(
        [COMMAND],
        env={"PATH": os.environ["PATH"], **GOOD, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr + ended.stdout
    return ended.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"API_KEYS": ""}, "API_KEYS is empty"),
        ({"API_KEYS": "change-me-please-123"}, "placeholder"),
        ({"ADMIN_API_KEYS": "short"}, "ADMIN_API_KEYS"),
        ({"ADMIN_API_KEYS": f"other:{SERVICE_KEY}"}, "repeats a key"),
        ({"ADMIN_API_KEYS": f"tester:{ADMIN_KEY}"}, "repeats a key or a name"),
        ({"WORKERS": "2"}, "needs PostgreSQL"),
        ({"DATABASE_URL": "mysql://host/db"}, "not supported"),
        ({"DATABASE_URL": "nonsense"}, "not a database URL"),
        ({"DATABASE_URL": "sqlite:///:memory:"}, "must name a file"),
        ({"DATABASE_URL": "sqlite:////proc/none/ledger.sqlite3"}, "can't be made"),
        ({"HOLD_TTL_DEFAULT_SECONDS": "100000"}, "HOLD_TTL_MAX_SECONDS"),
        ({"PORT": "many"}, "PORT"),
    ],
)
def test_refused(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    assert said in _refusal(tmp_path, **settings)


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    said = _refusal(
        tmp_path,
        DATABASE_URL="postgresql://me:secret@127.0.0.1:1/ledger",
        DATABASE_START_TIMEOUT_SECONDS="0",
    )
    assert "127.0.0.1:1/ledger" in said
    assert "secret" not in said


def test_without_a_database_url_the_ledger_is_under_the_data_folder(tmp_path: Path) -> None:
    with credits_process("", DATA_DIR=str(tmp_path / "data")) as process:
        with CreditsClient(process.url) as client:
            client.top_up("ann", "1")
        assert process.stop() == 0
    assert (tmp_path / "data" / "ledger.sqlite3").exists()


def test_a_restarted_service_finds_its_ledger(ledger_url: str) -> None:
    bare_url = ledger_url.replace("+asyncpg", "").replace("+aiosqlite", "")
    with credits_process(bare_url) as process, CreditsClient(process.url) as client:
        client.top_up("ann", "1")
    with credits_process(bare_url) as process, CreditsClient(process.url) as client:
        assert client.account("ann")["balance"] == "1"
        client.assert_sound()


def test_several_processes_may_start_at_once(ledger_url: str) -> None:
    """On an empty PostgreSQL each wants to make the tables; an SQLite ledger is one process's."""
    processes = [credits_process(ledger_url) for _ in range(3)]
    try:
        for process in processes:
            with suppress(AssertionError), CreditsClient(process.wait_until_listening().url) as it:
                assert it.http.get("/ready").status_code == 200
    finally:
        codes = sorted(process.stop() for process in processes)
    assert codes == ([0, 1, 1] if ledger_url.startswith("sqlite") else [0, 0, 0])


def test_the_operators_endpoints_need_no_key(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    assert service.http.get("/health").json()["status"] == "ok"
    assert service.http.get("/ready").json()["status"] == "ready"
    figures = service.http.get("/metrics").json()
    assert figures["service"] == "credits-service"
    assert figures["ledger"]["operations"] == {"TopUp": 1}
    assert figures["webhooks"] == {"delivered": 0, "failed": 0, "waiting": 0}
    text = service.http.get("/metrics", headers={"Accept": "text/plain"}).text
    assert 'ledger_operations_total{operation="TopUp",status="201"} 1.0' in text
    assert service.http.get("/docs").status_code == 200


def test_the_figures_tell_what_became_of_webhooks(ledger_url: str) -> None:
    app = app_of(ledger_url)
    with live_server(app) as base_url:
        metrics = app.state.services.metrics
        metrics.webhook_attempts.labels("delivered").inc(3)
        metrics.webhook_attempts.labels("unreachable").inc(2)
        metrics.webhooks_failed.inc()
        metrics.webhooks_waiting.set(4)
        figures = httpx.get(f"{base_url}/metrics").json()
    assert figures["webhooks"] == {"delivered": 3, "failed": 1, "waiting": 4}


def test_the_document_describes_the_types_that_are_checked(service: CreditsClient) -> None:
    document = service.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    bill = document["paths"]["/api/v1/bill"]["post"]
    reference = bill["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["required"]) == {"user_id", "amount"}
    assert schema["additionalProperties"] is False
    assert "application/problem+json" in bill["responses"]["402"]["content"]


def test_without_authentication_anybody_may_do_anything(tmp_path: Path) -> None:
    app = app_of(f"sqlite:///{tmp_path / 'open.sqlite3'}", auth_enabled=False)
    with live_server(app) as url:
        body = {"user_id": "ann", "amount": "1"}
        topped_up = httpx.post(
            f"{url}/api/v1/topup", json=body, headers={"Idempotency-Key": "t"}, timeout=60
        )
        assert topped_up.status_code == 201


def test_the_example_file_shows_every_setting_and_its_default() -> None:
    example = Path(__file__).parents[2] / "services" / "credits-service" / ".env.example"
    lines = example.read_text().splitlines()
    shown = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(shown) == {name.upper() for name in CreditsSettings.model_fields}
    defaults = CreditsSettings(_env_file=None, api_keys=SecretStr(SERVICE_KEY))
    filled = {name.lower(): value for name, value in shown.items() if name != "API_KEYS" and value}
    as_shown = CreditsSettings(_env_file=None, api_keys=SecretStr(SERVICE_KEY), **filled)  # type: ignore[arg-type]  # text, as from a file
    assert as_shown.model_dump() == defaults.model_dump()


def test_workers_build_their_app_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEYS", GOOD["API_KEYS"])
    assert build_app().title == "Credits service"
