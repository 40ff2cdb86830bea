"""Start everything on this machine, say how to use it, and stop all of it on Ctrl-C.

The ledger is a file under `./data`; without GEMINI_API_KEY a simulator stands in for Gemini.
`.env` and `data` are looked for in the project's folder, or in the one that is given.
"""

import fcntl
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from children import POLL_SECONDS, Child, Signals, StopRequestedError, post_json
from guide import guide
from local_settings import (
    DEMO_ACCOUNT,
    LocalKeys,
    LocalRunError,
    LocalSettings,
    check_ports,
    credits_environment,
    load_keys,
    proxy_environment,
    read_settings,
    simulator_environment,
)

ROOT = Path(__file__).resolve().parents[2]
DEMO_CREDIT_USD = "5.00"
# The same every time, so that the ledger adds this credit once.
DEMO_CREDIT_REFERENCE = "make-run-demo-credit"


def main(folder: Path = ROOT) -> int:
    """Run until a signal or a child's end; return the exit code."""
    signals = Signals()
    try:
        settings = read_settings(folder)
        wanted = dict(settings.ports)
        if settings.has_gemini_key:
            del wanted["SIMULATOR_PORT"]
        check_ports(wanted)
        (settings.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        with _only_run(settings.data_dir), _children(signals) as children:
            _start(settings, load_keys(settings.data_dir), children, signals)
            while True:
                signals.check()
                for child in children:
                    child.check()
                time.sleep(POLL_SECONDS)
    except StopRequestedError:
        _say("Everything has been stopped.")
        return 0
    except (LocalRunError, OSError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1


@contextmanager
def _only_run(data_dir: Path) -> Iterator[None]:
    """Keep a second run off this data: an embedded ledger is written by one program."""
    with (data_dir / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LocalRunError(
                f"Another `make run` uses {data_dir}. Stop it, or set DATA_DIR to another folder."
            ) from None
        yield


@contextmanager
def _children(signals: Signals) -> Iterator[list[Child]]:
    """Hold the started children and stop them on the way out, the last started first."""
    children: list[Child] = []
    try:
        yield children
    finally:
        for child in reversed(children):
            _say(f"Stopping {child.name} …")
            child.stop(signals)


def _start(
    settings: LocalSettings, keys: LocalKeys, children: list[Child], signals: Signals
) -> None:
    def start(name: str, environment: Mapping[str, str], ready_path: str) -> str:
        signals.check()
        child = Child(name, environment, settings.data_dir)
        children.append(child)
        _say(f"Starting {name} (log: {child.log}) …")
        child.wait_until_ready(ready_path, signals)
        return child.url

    simulator_url = None
    if not settings.has_gemini_key:
        _say(
            "*** No GEMINI_API_KEY: a local SIMULATOR stands in for Gemini and makes up answers.",
            "*** Put GEMINI_API_KEY=… into .env (or the environment) for real ones.",
        )
        simulator_url = start("gemini-simulator", simulator_environment(settings), "/health")
    credits_url = start("credits-service", credits_environment(settings, keys), "/ready")
    _add_demo_credit(credits_url, keys)
    proxy_url = start(
        "ai-proxy-service",
        proxy_environment(settings, keys, credits_url=credits_url, simulator_url=simulator_url),
        "/ready",
    )
    _say(guide(proxy_url, credits_url, keys))


def _add_demo_credit(credits_url: str, keys: LocalKeys) -> None:
    post_json(
        f"{credits_url}/api/v1/topup",
        {
            "user_id": DEMO_ACCOUNT,
            "amount": DEMO_CREDIT_USD,
            "reference": DEMO_CREDIT_REFERENCE,
        },
        {
            "authorization": f"Bearer {keys.admin}",
            "idempotency-key": DEMO_CREDIT_REFERENCE,
        },
        done_already="reference_used",
    )


def _say(*lines: str) -> None:
    # A terminal that has been closed must not keep the children from being stopped.
    with suppress(OSError):
        print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
