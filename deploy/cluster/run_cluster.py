"""Start several processes of everything on this machine, and stop all of them on Ctrl-C.

nginx, two proxies and two credits services of two workers each, PostgreSQL, Redis, and without
GEMINI_API_KEY the simulator. `.env` and `data` are looked for in the project's folder, or in the
one that is given. `restart` tells a cluster that runs to restart its services one by one.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from children import StopRequestedError
from cluster_settings import find_tools, gateway_port
from local_settings import LocalRunError, load_keys, read_settings

from cluster import Cluster, ClusterSignals, Given, say

ROOT = Path(__file__).resolve().parents[2]
_LOCK = "run.lock"


def main(*arguments: str) -> int:
    """Do what the arguments say: `[restart] [folder]`; return the exit code."""
    is_restart = arguments[:1] == ("restart",)
    folder = Path(*arguments[is_restart:][:1] or (str(ROOT),))
    try:
        settings = read_settings(folder)
        settings = replace(settings, data_dir=settings.data_dir / "cluster")
        if is_restart:
            return _restart(settings.data_dir)
        signals = ClusterSignals()
        tools = find_tools(settings.environment)
        port = gateway_port(settings.environment)
        for name in ("logs", "tmp"):
            (settings.data_dir / name).mkdir(parents=True, exist_ok=True)
        with _only_run(settings.data_dir):
            given = Given(settings, load_keys(settings.data_dir), tools, port)
            _run(Cluster(given, signals))
    except StopRequestedError:
        say("Everything has been stopped.")
        return 0
    except (LocalRunError, OSError) as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


def _run(cluster: Cluster) -> None:
    try:
        cluster.start()
        cluster.run()
    finally:
        cluster.stop()


def _restart(data_dir: Path) -> int:
    """Send SIGHUP to the program that holds the lock."""
    try:
        with (data_dir / _LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                os.kill(int(lock.read()), signal.SIGHUP)
                say("`make cluster` restarts its services; it shows how far it is.")
                return 0
    except FileNotFoundError:
        pass
    raise LocalRunError(f"No cluster runs on {data_dir}. Start one: make cluster")


@contextmanager
def _only_run(data_dir: Path) -> Iterator[None]:
    """Keep a second run off this data, and tell who runs."""
    with (data_dir / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LocalRunError(
                f"Another `make cluster` uses {data_dir}. Stop it, or set DATA_DIR to another "
                "folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
