"""The deployment files and the guide say what the code does; the guide's commands work.

A ```bash block of the guide is run here if a comment before it names the programs that it
needs: `<!-- tested: curl jq -->`.
"""

import json
import os
import re
import runpy
import secrets
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ai_proxy_service.core.pricing import ModelPrice
from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from service_kit.settings import CommonSettings
from support.stack import ADMIN_KEY, CLIENT_KEY, SERVICE_KEY, Stack

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "DEPLOYMENT_GUIDE.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SETTINGS: dict[str, type[CommonSettings]] = {
    "ai-proxy-service": ProxySettings,
    "credits-service": CreditsSettings,
}
SERVICES = list(SETTINGS)
COMMANDS_SECONDS_MAX = 120


def names_of(settings: type[CommonSettings]) -> set[str]:
    """Return the names that a service reads from its environment."""
    return {name.upper() for name in settings.model_fields}


def settings_from(
    service: str, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> CommonSettings:
    """Return a service's settings as it would read them from this environment alone."""
    settings_class = SETTINGS[service]
    for name in names_of(settings_class):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return settings_class(_env_file=None)


# --- docker-compose.yml and the Dockerfiles ---------------------------------------------------


def substituted(value: object, given: Mapping[str, str]) -> str:
    """Fill in `${NAME:-default}` and `${NAME:?message}` as Compose does."""

    def fill(found: re.Match[str]) -> str:
        name, sign, text = found.groups()
        if given.get(name):
            return given[name]
        assert sign == ":-", f"{name} is required: {text}"
        return str(text)

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", fill, str(value))


def compose_variables() -> dict[str, bool]:
    """Return the variables that the compose file reads, and whether it insists on each."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return {name: sign == ":?" for name, sign in re.findall(r"\$\{(\w+)(:-|:\?)", text)}


def dockerfile(service: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, each with its argument on one line."""
    path = ROOT / COMPOSE["services"][service]["build"]["dockerfile"]
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    ]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (line.split(" ", 1)[0], line.split(" ", 1)[1].strip())
        for line in whole.splitlines()
        if line
    ]


def argument(service: str, instruction: str) -> str:
    """Return the last argument of an instruction, which is the one that counts."""
    return [value for name, value in dockerfile(service) if name == instruction][-1]


def image_environment(service: str) -> dict[str, str]:
    """Return what the final stage's ENV sets."""
    return dict(
        pair.split("=", 1) for pair in shlex.split(argument(service, "ENV").replace("$", r"\$"))
    )


@pytest.mark.parametrize("service", SERVICES)
def test_compose_sets_only_what_the_service_reads(service: str) -> None:
    assert set(COMPOSE["services"][service]["environment"]) <= names_of(SETTINGS[service])


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_sets_only_settings_and_python_s_own_variables(service: str) -> None:
    own = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}

    assert set(image_environment(service)) - own <= names_of(SETTINGS[service])


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_accepts_what_compose_gives_it(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: secrets.token_hex(24) for name, needed in compose_variables().items() if needed}
    environment = {
        name: substituted(value, given)
        for name, value in COMPOSE["services"][service]["environment"].items()
    }

    settings = settings_from(
        service,
        {**image_environment(service), **environment, "PATH": os.environ["PATH"]},
        monkeypatch,
    )

    assert settings.host == "0.0.0.0"  # noqa: S104 - in a container
    if isinstance(settings, ProxySettings):
        assert settings.billing_enforced
        assert settings.price_markup == 1


def test_the_proxy_s_key_is_one_that_credits_accepts() -> None:
    given = {name: f"value-of-{name}" for name in compose_variables()}
    shown = substituted(
        COMPOSE["services"]["ai-proxy-service"]["environment"]["CREDITS_SERVICE_API_KEY"], given
    )
    accepted = substituted(
        COMPOSE["services"]["credits-service"]["environment"]["API_KEYS"], given
    ).split(",")

    assert shown in [key.rpartition(":")[2] for key in accepted]


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_s_user_has_no_privileges(service: str) -> None:
    user = argument(service, "USER").split(":")[0]

    assert user.isdigit()
    assert int(user) > 0


@pytest.mark.parametrize("service", SERVICES)
def test_compose_stops_a_service_later_than_it_stops_itself(service: str) -> None:
    seconds = int(COMPOSE["services"][service]["stop_grace_period"].removesuffix("s"))
    drain: int = SETTINGS[service].model_fields["drain_seconds"].default
    own = drain * 3 // 2

    # Charges that are under way after that still have their calls' own time limits.
    assert seconds >= own + 15


@pytest.mark.parametrize("service", SERVICES)
def test_ports_agree_between_image_settings_and_compose(service: str) -> None:
    port = str(SETTINGS[service].model_fields["port"].default)

    assert argument(service, "EXPOSE") == port
    assert image_environment(service)["PORT"] == port
    assert "PORT" not in COMPOSE["services"][service]["environment"]


def test_the_proxy_finds_credits_under_its_name_and_port() -> None:
    url = COMPOSE["services"]["ai-proxy-service"]["environment"]["CREDITS_SERVICE_URL"]

    assert url == f"http://credits-service:{CreditsSettings.model_fields['port'].default}"


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_is_made_of_files_that_exist_and_reach_the_build(service: str) -> None:
    build = COMPOSE["services"][service]["build"]
    context = ROOT / build["context"]
    ignored = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = [line[1:] for line in ignored if line.startswith("!")]
    refused = [line.removeprefix("**/") for line in ignored if line.startswith("**/")]

    sources = [
        source
        for name, value in dockerfile(service)
        if name == "COPY" and "--from" not in value
        for source in value.split()[:-1]
    ]

    assert set(sources) == {"requirements.lock", "services/service-kit", f"services/{service}"}
    assert all((context / source).exists() for source in sources)
    assert set(sources) <= set(admitted)
    assert "*" in ignored
    assert any(fnmatch(".env", pattern) for pattern in refused)


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_starts_the_service_s_own_command(service: str) -> None:
    project = tomllib.loads(
        (ROOT / "services" / service / "pyproject.toml").read_text(encoding="utf-8")
    )

    (command,) = json.loads(argument(service, "CMD"))

    assert command in project["project"]["scripts"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_package_of_the_image_is_checked_against_the_lock(service: str) -> None:
    installs = re.findall(
        r"uv pip install [^&]*", " ".join(v for n, v in dockerfile(service) if n == "RUN")
    )
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")

    assert len(installs) == 2
    for command in installs:
        assert "--require-hashes" in command
        assert "--constraints requirements.lock" in command
    assert re.search(r"^hatchling==", lock, re.MULTILINE)
    # The installer as well: the Dockerfile takes its lines out of the lock.
    (installer,) = re.findall(
        r"(?<!uv )pip install [^&]*uv\.txt",
        " ".join(v for n, v in dockerfile(service) if n == "RUN"),
    )
    assert "--require-hashes" in installer
    assert re.search(r"^uv==\S+ \\\n +--hash=", lock, re.MULTILINE)


@pytest.mark.parametrize("service", SERVICES)
def test_the_image_s_health_check_tells_a_live_service_from_a_dead_one(
    service: str, stack: Stack
) -> None:
    check = argument(service, "HEALTHCHECK").partition("CMD ")[2]
    _python, *arguments = json.loads(check)
    live = {"ai-proxy-service": stack.proxy, "credits-service": stack.ledger}[service].url

    def exit_code(port: int) -> int:
        environment = {"PORT": str(port), "HTTP_PROXY": "http://127.0.0.1:1"}
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            capture_output=True,
            timeout=30,
            check=False,
        ).returncode

    assert exit_code(int(live.rpartition(":")[2])) == 0
    assert exit_code(free_port()) != 0


# --- .env.example -----------------------------------------------------------------------------


def example_names() -> list[str]:
    return re.findall(r"^([A-Z][A-Z0-9_]*)=", EXAMPLE, re.MULTILINE)


def test_the_root_example_names_only_what_something_reads() -> None:
    launcher = runpy.run_path(str(ROOT / "deploy" / "local" / "local_settings.py"))
    read = {*launcher["PORTS"], *compose_variables(), "GATEWAY_PORT"}
    read.update(*map(names_of, SETTINGS.values()))

    assert set(example_names()) <= read
    assert len(example_names()) == len(set(example_names()))


def test_the_root_example_names_everything_that_compose_and_the_launcher_read() -> None:
    launcher = runpy.run_path(str(ROOT / "deploy" / "local" / "local_settings.py"))

    assert {*launcher["PORTS"], *compose_variables(), "DATA_DIR"} <= set(example_names())


def test_a_copy_of_the_root_example_changes_nothing_about_a_local_run() -> None:
    values = re.findall(r"^[A-Z][A-Z0-9_]*=(.*)$", EXAMPLE, re.MULTILINE)

    assert set(values) == {""}


# --- the guide's tables -----------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One setting as the guide shows it."""

    services: tuple[str, ...]
    name: str
    default: str
    example: str


def guide_rows() -> list[Row]:
    sections = {
        "Both services": tuple(SERVICES),
        "ai-proxy-service": ("ai-proxy-service",),
        "credits-service": ("credits-service",),
    }
    rows: list[Row] = []
    for heading, services in sections.items():
        section = GUIDE.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
        rows += [
            Row(services, name, default, example)
            for name, default, example in re.findall(
                r"^\| `([A-Z_]+)` \| [^|]+ \| ([^|]+) \| `([^|]+)` \|$", section, re.MULTILINE
            )
        ]
    return rows


def shown_default(name: str, field: FieldInfo) -> str:
    """Return how the guide writes a default."""
    if field.is_required() or name == "API_KEYS":
        return "none; required"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path) and value.is_absolute():
        return f"the shipped `{value.name}`"
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float | Decimal):
        value = f"{value:g}"
    elif isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if str(value) else "none"


@pytest.mark.parametrize("service", SERVICES)
def test_the_guide_has_each_setting_once_with_its_real_default(service: str) -> None:
    fields = SETTINGS[service].model_fields
    shown = [(row.name, row.default) for row in guide_rows() if service in row.services]

    assert sorted(shown) == sorted(
        (name.upper(), shown_default(name.upper(), field)) for name, field in fields.items()
    )


@pytest.mark.parametrize("row", guide_rows(), ids=lambda row: f"{row.services[-1]}-{row.name}")
def test_the_service_accepts_the_guide_s_example(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.sub(r"<\w+>", lambda _: secrets.token_hex(24), row.example)
    for service in row.services:
        needed = {"API_KEYS": secrets.token_hex(24)}
        if service == "ai-proxy-service":
            needed |= {
                "GEMINI_API_KEY": "any",
                "CREDITS_SERVICE_URL": "http://127.0.0.1:8001",
                "CREDITS_SERVICE_API_KEY": secrets.token_hex(24),
            }
        else:
            needed |= {
                "WEBHOOK_URL": "https://hooks.example/",
                "WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
            }

        settings = settings_from(service, {**needed, row.name: example}, monkeypatch)

        assert row.name.lower() in settings.model_fields_set


def test_the_guide_s_model_price_is_of_the_catalogue_s_form() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)

    prices = msgspec.json.decode(f"{{{block}}}", type=dict[str, ModelPrice])

    assert list(prices) == ["gemini-2.5-pro"]


def test_the_figures_that_the_guide_explains_exist(stack: Stack) -> None:
    def metrics(url: str) -> str:
        answer = httpx.get(f"{url}/metrics", headers={"accept": "text/plain"}, timeout=30)
        return answer.raise_for_status().text

    known = set(
        re.findall(
            r"^# TYPE (\w+) ", metrics(stack.proxy.url) + metrics(stack.ledger.url), re.MULTILINE
        )
    )
    monitoring = GUIDE.partition("\n## Monitoring\n")[2].partition("\n## ")[0]
    named = set(
        re.findall(r"`((?:gateway|gen_ai|http_server|ledger|rate_limit)_\w+)[{`]", monitoring)
    )

    assert len(named) > 10
    assert named <= known


def test_the_json_figures_that_the_guide_explains_exist(stack: Stack) -> None:
    views: list[dict[str, Any]] = [
        httpx.get(f"{url}/metrics", timeout=30).raise_for_status().json()
        for url in (stack.proxy.url, stack.ledger.url)
    ]
    known = {
        f"{group}.{name}"
        for view in views
        for group, figures in view.items()
        if isinstance(figures, dict)
        for name in figures
    }
    monitoring = GUIDE.partition("\n## Monitoring\n")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:billing|http|requests|performance|streams|ledger)\.\w+)`", monitoring)

    assert len(named) > 8
    assert set(named) <= known


# --- the guide's commands ---------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def blocks_to_test() -> list[Any]:
    pattern = re.compile(r"<!-- tested: ([\w ]+) -->\n```bash\n(.*?)```", re.DOTALL)
    return [
        pytest.param(
            found[1].split(),
            found[2],
            id=f"line-{GUIDE.count(chr(10), 0, found.start(2)) + 1}",
        )
        for found in pattern.finditer(GUIDE)
    ]


def test_every_mark_of_a_tested_command_is_understood() -> None:
    assert len(blocks_to_test()) == GUIDE.count("<!-- tested") > 10


@pytest.mark.parametrize(("programs", "commands"), blocks_to_test())
def test_the_guide_s_commands_work(
    programs: list[str], commands: str, stack: Stack, tmp_path: Path
) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    stack.http(stack.ledger.url, ADMIN_KEY).post(
        "/api/v1/topup",
        json={"user_id": "alice", "amount": "1"},
        headers={"idempotency-key": "before-the-guide"},
    ).raise_for_status()
    backup = tmp_path / "backup.sqlite3"
    with (
        closing(sqlite3.connect(stack.folder / "ledger.sqlite3")) as ledger,
        closing(sqlite3.connect(backup)) as copy,
    ):
        ledger.backup(copy)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PROXY": stack.proxy.url,
        "CREDITS": stack.ledger.url,
        "CLIENT_KEY": CLIENT_KEY,
        "SERVICE_KEY": SERVICE_KEY,
        "ADMIN_KEY": ADMIN_KEY,
        "DATA_DIR": str(stack.folder),
        "OUTBOX": str(stack.folder / "outbox.sqlite3"),
        "BACKUP": str(backup),
        "CHECK": str(tmp_path / "check"),
        "CHECK_PORT": str(free_port()),
    }

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],  # noqa: S607 - the one on the path
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMANDS_SECONDS_MAX,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
