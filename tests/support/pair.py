"""Two proxies, each on a credits service of its own, over one PostgreSQL and one simulator."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.databases import postgres_database, require_postgres
from support.processes import ServiceProcess
from support.stack import Stack, ledger_env, proxy_env


@dataclass(frozen=True, slots=True)
class Pair:
    """The running system.

    Attributes:
        stack: what the first proxy sees of it; accounts and journal are the same for both.
        proxies: both proxies.
    """

    stack: Stack
    proxies: tuple[ServiceProcess, ServiceProcess]


@contextmanager
def running_pair(folder: Path, proxy_settings: dict[str, str], requests_max: int) -> Iterator[Pair]:
    """Start everything on an empty ledger.

    Args:
        folder: where the processes keep their data.
        proxy_settings: settings of both proxies.
        requests_max: how many requests the simulator has to remember.
    """
    require_postgres()
    with ExitStack() as exits:
        ledger_url = exits.enter_context(postgres_database())
        remembered = {"SIMULATOR_RECORDED_REQUESTS": str(requests_max)}
        simulator = exits.enter_context(ServiceProcess("gemini-simulator", remembered, cwd=folder))
        sides = []
        for name in ("left", "right"):
            home = folder / name
            home.mkdir()
            env = ledger_env(ledger_url, home)
            ledger = exits.enter_context(ServiceProcess("credits-service", env, cwd=home))
            urls = {"simulator": simulator.url, "ledger": ledger.url}
            env = {**proxy_env(urls, home), **proxy_settings}
            proxy = exits.enter_context(ServiceProcess("ai-proxy-service", env, cwd=home))
            sides.append((ledger, proxy))
        (ledger, first), (_, second) = sides
        stack = Stack(folder, ledger_url, simulator, ledger, first)
        with stack._exits:
            yield Pair(stack, (first, second))
