"""Runs the `credits` command as users do: a process, its output, its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from credits.client import ADMIN_KEY, Json
from credits.drivers import WriterDriver
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge, PlaceHold, TopUp

COMMAND = Path(sys.executable).parent / "credits"
_TIMEOUT_SECONDS = 120
_USD = 1_000_000_000
_ACCOUNTS = 20


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    def document(self) -> Json:
        found: Json = json.loads(self.stdout)
        return found


def environment(**settings: str) -> dict[str, str]:
    """Only what is named is inherited, so that a developer's own settings change no test."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**inherited, "CREDITS_API_KEY": ADMIN_KEY, **settings}


def credits_command(cwd: Path, arguments: Sequence[str], **settings: str) -> Ended:
    """Run the command to its end; it must not fall over, whatever it is told."""
    ended = subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def fill(url: str, charges: int) -> None:
    """Make a ledger of some accounts with top-ups, holds and this many charges."""
    driver = WriterDriver(url)
    users = [f"user-{number:02}/ä Ω" for number in range(_ACCOUNTS)]
    driver.run(
        [
            Command(TopUp(user, 1000 * _USD), "admin", "req", IdempotencyKey("admin", f"t{user}"))
            for user in users
        ]
    )
    driver.run(
        [Command(PlaceHold(user, _USD, ttl_micros=10**9), "tester", "req") for user in users]
    )
    for start in range(0, charges, 1000):
        driver.run(
            [
                Command(
                    Charge(users[n % _ACCOUNTS], n + 1, description=f"answer {n}"),
                    "tester",
                    f"req_{n}",
                    IdempotencyKey("tester", f"c{n}"),
                )
                for n in range(start, min(start + 1000, charges))
            ]
        )
    driver.close()
