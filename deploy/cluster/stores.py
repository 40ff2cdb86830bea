"""A PostgreSQL and a Redis of the cluster's own, where none are given."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cluster_settings import Stores, Tools, free_port, kept_secret, write_private
from local_settings import HOST, LocalRunError
from programs import Plan

# What PostgreSQL runs as if we are root, as which it refuses to.
_OWNER = "postgres"
# Four workers with their pools, and as many again while they are restarted.
_CONNECTIONS_MAX = 200
_TIMEOUT_SECONDS = 60


def plan_stores(
    environment: Mapping[str, str], tools: Tools, data_dir: Path
) -> tuple[Stores, list[Plan]]:
    """Return what the services are to use, and what must run for it.

    Raises:
        LocalRunError: PostgreSQL's data could not be made.
    """
    database_url = environment.get("DATABASE_URL", "").strip()
    redis_url = environment.get("RATE_LIMIT_STORAGE_URI", "").strip()
    plans = []
    if tools.postgres is not None:
        database_url, plan = _postgres(environment, tools.postgres, data_dir / "postgresql")
        plans.append(plan)
    if tools.redis is not None:
        redis_url, plan = _redis(environment, tools.redis, data_dir / "redis")
        plans.append(plan)
    usage_log_url = environment.get("USAGE_LOG_URL", "").strip() or database_url
    return Stores(database_url, usage_log_url, redis_url), plans


def _postgres(environment: Mapping[str, str], programs: Path, folder: Path) -> tuple[str, Plan]:
    password = kept_secret(folder.with_suffix(".password"))
    owner = _OWNER if os.geteuid() == 0 else None
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _make_data(programs, folder, password, owner)
    port = free_port()
    options = {
        "port": str(port),
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": str(_CONNECTIONS_MAX),
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    is_up = [str(programs / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
    plan = Plan(
        "postgresql",
        [str(programs / "postgres"), "-D", str(data), *arguments],
        environment,
        lambda _written: subprocess.run(is_up, check=False).returncode == 0,  # noqa: S603 - PostgreSQL's own
        # "Fast": it does not wait for its clients.
        ends_at=signal.SIGINT,
        end_seconds=_TIMEOUT_SECONDS,
        user=owner,
    )
    return f"postgresql://postgres:{password}@{HOST}:{port}/postgres", plan


def _make_data(programs: Path, folder: Path, password: str, owner: str | None) -> None:
    # What an interrupted first run has left.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    password_file = folder / "password"
    write_private(password_file, password)
    if owner is not None:
        shutil.chown(folder, owner, owner)
        shutil.chown(password_file, owner, owner)
    whose = {"user": owner, "group": owner, "extra_groups": []} if owner else {}
    draft = folder / "new"
    try:
        made = subprocess.run(  # type: ignore[call-overload]  # noqa: S603 - options by name; PostgreSQL's own
            [
                str(programs / "initdb"),
                f"--pgdata={draft}",
                "--username=postgres",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            **whose,
        )
    except (PermissionError, subprocess.TimeoutExpired) as error:
        raise LocalRunError(f"PostgreSQL's initdb could not be run: {error}") from None
    if made.returncode != 0:
        hint = (
            f"\nThe user {owner} must be able to enter {folder.parent}; set DATA_DIR to another "
            "folder, /var/tmp/gateway say."
            if owner
            else ""
        )
        raise LocalRunError(f"PostgreSQL's initdb failed: {made.stdout}{made.stderr}{hint}")
    password_file.unlink()
    draft.rename(folder / "data")


def _redis(environment: Mapping[str, str], program: str, folder: Path) -> tuple[str, Plan]:
    folder.mkdir(exist_ok=True)
    password = kept_secret(folder.with_suffix(".password"))
    port = free_port()
    file = folder / "redis.conf"
    # A file, as anybody can read a program's arguments.
    settings = {
        "port": str(port),
        "bind": HOST,
        "dir": str(folder),
        "requirepass": password,
        "save": '""',
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    write_private(file, "\n".join(f"{name} {value}" for name, value in settings.items()))

    def is_ready(_written: str) -> bool:
        # It refuses commands while it reads what it has kept.
        with suppress(OSError), socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answers:
                return b"+PONG" in answers.read()
        return False

    plan = Plan("redis", [program, str(file)], environment, is_ready)
    return f"redis://:{password}@{HOST}:{port}", plan
