"""What a local run is made of: ports, keys, and the environment of each program."""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from service_kit.settings import dotenv_problems

HOST = "127.0.0.1"
PORTS = {"PROXY_PORT": 8002, "CREDITS_PORT": 8001, "SIMULATOR_PORT": 8003}
PORT_MAX = 65535
DEMO_ACCOUNT = "demo"


class LocalRunError(Exception):
    """Something is in the way; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class LocalKeys:
    """Keys made for this machine.

    Attributes:
        demo: what people call the proxy with.
        service: what the proxy calls the credits service with.
        admin: what adds credit.
    """

    demo: str
    service: str
    admin: str


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What the operator asked for.

    Attributes:
        environment: the `.env` file's values under the process's own.
        ports: by name of the setting; 0 takes a free one.
        data_dir: where the ledger, the keys and the logs are kept.
        has_gemini_key: whether Gemini answers, or the simulator.
    """

    environment: Mapping[str, str]
    ports: Mapping[str, int]
    data_dir: Path
    has_gemini_key: bool


def read_settings(root: Path) -> LocalSettings:
    """Read the environment and `.env`.

    Raises:
        LocalRunError: a line or a value can't be used.
    """
    file = root / ".env"
    problems = dotenv_problems([file])
    if problems:
        raise LocalRunError(
            "\n".join(problems)
            + "\nCorrect the file, or move it away: everything in it is optional."
        )
    from_file = {name: value for name, value in dotenv_values(file).items() if value is not None}
    environment = {**from_file, **os.environ}
    ports = {name: _port(name, environment.get(name, ""), PORTS[name]) for name in PORTS}
    named = [port for port in ports.values() if port]
    if len(set(named)) != len(named):
        raise LocalRunError(f"Give each of {', '.join(PORTS)} a port of its own.")
    return LocalSettings(
        environment=environment,
        ports=ports,
        data_dir=(root / (environment.get("DATA_DIR", "").strip() or "data")).resolve(),
        has_gemini_key=bool(environment.get("GEMINI_API_KEY", "").strip(" ,")),
    )


def _port(name: str, text: str, default: int) -> int:
    if not text.strip():
        return default
    if not text.strip().isdecimal() or int(text) > PORT_MAX:
        raise LocalRunError(
            f"{name}={text} is not a port: set it to a number from 0 to {PORT_MAX}."
        )
    return int(text)


def check_ports(ports: Mapping[str, int]) -> None:
    """Make sure that every port is free before anything starts.

    Raises:
        LocalRunError: one is not.
    """
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise LocalRunError(
                    f"Port {port} can't be opened: {error.strerror}.\n"
                    f"Stop the program that holds it (`ss -ltnp 'sport = :{port}'` names it), "
                    f"or choose another port: {name}={port + 10000 if port < 50000 else 0} make run"  # noqa: PLR2004 - stays below 65536
                ) from None


def load_keys(data_dir: Path) -> LocalKeys:
    """Return this machine's keys; the first run makes them, readable by the owner only.

    Raises:
        LocalRunError: the file is damaged.
    """
    file = data_dir / "local-keys.json"
    try:
        keys = LocalKeys(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        keys = LocalKeys(*(f"sk-{secrets.token_hex(24)}" for _ in range(3)))
        _write_private(file, json.dumps({name: getattr(keys, name) for name in keys.__slots__}))
    except (ValueError, TypeError):
        raise LocalRunError(f"{file} is damaged. Delete it: new keys will be made.") from None
    return keys


def _write_private(file: Path, text: str) -> None:
    # Written beside and renamed, so that an interrupted first run leaves no half of it.
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text + "\n")
    draft.rename(file)


def common_environment(settings: LocalSettings) -> dict[str, str]:
    """Return the environment of every program: the operator's, except for what is local.

    An empty value means the default.
    """
    return {
        **settings.environment,
        "HOST": HOST,
        "WORKERS": "1",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "DATA_DIR": str(settings.data_dir),
        "DRAIN_SECONDS": "3",
        "AUTH_ENABLED": "true",
        "AUTH_EXEMPT_PATHS": "",
        "RATE_LIMIT_STORAGE_URI": "",
    }


def simulator_environment(settings: LocalSettings) -> dict[str, str]:
    """Return the environment of gemini-simulator."""
    return {**common_environment(settings), "PORT": str(settings.ports["SIMULATOR_PORT"])}


def credits_environment(settings: LocalSettings, keys: LocalKeys) -> dict[str, str]:
    """Return the environment of credits-service, with its embedded ledger."""
    return {
        **common_environment(settings),
        "PORT": str(settings.ports["CREDITS_PORT"]),
        "DATABASE_URL": "",
        "API_KEYS": f"ai-proxy:{keys.service}",
        "ADMIN_API_KEYS": f"operator:{keys.admin}",
    }


def proxy_environment(
    settings: LocalSettings, keys: LocalKeys, *, credits_url: str, simulator_url: str | None
) -> dict[str, str]:
    """Return the environment of ai-proxy-service."""
    gemini = (
        {"GEMINI_BASE_URL": simulator_url, "GEMINI_API_KEY": "local-simulator"}
        if simulator_url
        else {}
    )
    return {
        **common_environment(settings),
        **gemini,
        "PORT": str(settings.ports["PROXY_PORT"]),
        "API_KEYS": f"{DEMO_ACCOUNT}:{keys.demo}",
        "CREDITS_SERVICE_URL": credits_url,
        "CREDITS_SERVICE_API_KEY": keys.service,
    }
