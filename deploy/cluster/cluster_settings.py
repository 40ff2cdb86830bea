"""What the cluster is made of: addresses, secrets, and the environment of each program."""

import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from front import nginx_program
from local_settings import (
    DEMO_ACCOUNT,
    HOST,
    PORT_MAX,
    LocalKeys,
    LocalRunError,
    LocalSettings,
)

GATEWAY_PORT = 8443
REPLICAS = 2
WORKERS = 2
_DEBIAN = Path("/usr/lib/postgresql")
# How long a process still takes requests that were on their way to it: each of its answers says
# that its connection is not to be used again.
_SHUTDOWN_DELAY_SECONDS = "1"


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of others.

    Attributes:
        nginx: the server.
        redis: the server; None where an address was given.
        postgres: the folder of the server's programs; None where an address was given.
    """

    nginx: str
    redis: str | None
    postgres: Path | None


@dataclass(frozen=True, slots=True)
class Stores:
    """What all processes share.

    Attributes:
        database_url: of the ledger.
        usage_log_url: of the record of charges.
        redis_url: limits, kept answers, thought signatures.
    """

    database_url: str
    usage_log_url: str
    redis_url: str


def find_tools(environment: Mapping[str, str], search: str | None = None) -> Tools:
    """Find all programs that are needed.

    Args:
        environment: what the operator asked for: a store that has an address needs no program.
        search: folders to look in, as in PATH, which is the default.

    Raises:
        LocalRunError: some are not installed; the message says what to install, or to set.
    """
    nginx, redis, postgres = nginx_program(), None, None
    missing = []
    if nginx is None:
        missing.append("nginx: apt install nginx-light")
    if shutil.which("openssl", path=search) is None:
        missing.append("openssl: apt install openssl")
    if not environment.get("RATE_LIMIT_STORAGE_URI", "").strip():
        redis = shutil.which("redis-server", path=search)
        if redis is None:
            missing.append(
                "redis-server: apt install redis-server, or name one: "
                "RATE_LIMIT_STORAGE_URI=redis://host:6379"
            )
    if not environment.get("DATABASE_URL", "").strip():
        postgres = _postgres_programs()
        if postgres is None:
            missing.append(
                "PostgreSQL's server: apt install postgresql, or name one: "
                "DATABASE_URL=postgresql://user:password@host/database"
            )
    if missing or nginx is None:
        raise LocalRunError("\n".join(["Not found on this machine:", *missing]))
    return Tools(nginx, redis, postgres)


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = (folder for folder in _DEBIAN.glob("*/bin") if folder.parent.name.isdecimal())
    return max(versions, key=lambda folder: int(folder.parent.name), default=None)


def gateway_port(environment: Mapping[str, str]) -> int:
    """Return the port of nginx (`GATEWAY_PORT`; 0 takes a free one), and see that it is free.

    Raises:
        LocalRunError: it is no port, or taken.
    """
    text = environment.get("GATEWAY_PORT", "").strip() or str(GATEWAY_PORT)
    if not text.isdecimal() or int(text) > PORT_MAX:
        raise LocalRunError(
            f"GATEWAY_PORT={text} is not a port: set it to a number from 0 to {PORT_MAX}."
        )
    try:
        return free_port(int(text))
    except OSError as error:
        raise LocalRunError(
            f"Port {text} can't be opened: {error.strerror}.\nStop the program that holds it "
            f"(`ss -ltnp 'sport = :{text}'` names it), or choose another port: "
            "GATEWAY_PORT=0 make cluster"
        ) from None


def free_port(wanted: int = 0) -> int:
    """Return a port that can be opened.

    Raises:
        OSError: not the wanted one.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, wanted))
        port: int = probe.getsockname()[1]
        return port


def kept_secret(file: Path) -> str:
    """Return a password of this machine's; the first run makes it."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        made = secrets.token_hex(24)
        write_private(file, made)
        return made


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text + "\n")
    draft.rename(file)


def _common(settings: LocalSettings) -> dict[str, str]:
    asked = settings.environment
    return {
        **asked,
        "HOST": HOST,
        "WORKERS": str(WORKERS),
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "AUTH_ENABLED": "true",
        "AUTH_EXEMPT_PATHS": "",
        # One process serves it beside the next.
        "METRICS_PORT": "0",
        "SHUTDOWN_DELAY_SECONDS": asked.get("SHUTDOWN_DELAY_SECONDS", "").strip()
        or _SHUTDOWN_DELAY_SECONDS,
        # What a killed process leaves of its metrics is not to stay for ever.
        "TMPDIR": str(settings.data_dir / "tmp"),
    }


def simulator_environment(settings: LocalSettings) -> dict[str, str]:
    """Return the environment of gemini-simulator, one process: it remembers what it was asked."""
    return {**_common(settings), "WORKERS": "1", "DATA_DIR": str(settings.data_dir)}


def credits_environment(settings: LocalSettings, keys: LocalKeys, stores: Stores) -> dict[str, str]:
    """Return the environment of each credits-service."""
    return {
        **_common(settings),
        "DATA_DIR": str(settings.data_dir),
        "DATABASE_URL": stores.database_url,
        "RATE_LIMIT_STORAGE_URI": stores.redis_url,
        "API_KEYS": f"ai-proxy:{keys.service}",
        "ADMIN_API_KEYS": f"operator:{keys.admin}",
    }


def proxy_environment(
    settings: LocalSettings,
    keys: LocalKeys,
    stores: Stores,
    *,
    name: str,
    credits_url: str,
    simulator_url: str | None,
) -> dict[str, str]:
    """Return the environment of one ai-proxy-service; its outbox is in a folder of its name."""
    gemini = (
        {"GEMINI_BASE_URL": simulator_url, "GEMINI_API_KEY": "local-simulator"}
        if simulator_url
        else {}
    )
    return {
        **_common(settings),
        **gemini,
        "DATA_DIR": str(settings.data_dir / name),
        "API_KEYS": f"{DEMO_ACCOUNT}:{keys.demo}",
        "CREDITS_SERVICE_URL": credits_url,
        "CREDITS_SERVICE_API_KEY": keys.service,
        "USAGE_LOG_URL": stores.usage_log_url,
        "RATE_LIMIT_STORAGE_URI": stores.redis_url,
        "ANSWER_STORE_URI": stores.redis_url,
        "CALL_MEMORY_URI": stores.redis_url,
        "FORWARDED_ALLOW_IPS": HOST,
    }
