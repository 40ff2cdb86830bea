"""The programs of the cluster together: started, tended, restarted one by one, and stopped."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from children import POLL_SECONDS, Signals, post_json
from cluster_guide import cluster_guide
from cluster_settings import (
    REPLICAS,
    Stores,
    Tools,
    credits_environment,
    proxy_environment,
    simulator_environment,
)
from front import certificate_of, lay_out, nginx_command
from local_settings import DEMO_ACCOUNT, HOST, LocalKeys, LocalRunError, LocalSettings
from programs import START_SECONDS, Plan, Program
from stores import plan_stores

from service_kit.server import bind

DEMO_CREDIT_USD = "5.00"
# The same every time, so that the ledger adds this credit once.
DEMO_CREDIT_REFERENCE = "make-cluster-demo-credit"
# Beyond the time for running answers: what has no client, the calls that settle, a busy machine.
_END_SECONDS = 30
_DRAIN_SECONDS = "20"
_STARTED = "Application startup complete"


def say(*lines: str) -> None:
    """Tell the operator; a terminal that has been closed must not keep anything from being done."""
    with suppress(OSError):
        print(*lines, sep="\n", flush=True)


class ClusterSignals(Signals):
    """Notes that the cluster is to end, or at SIGHUP to be restarted.

    SIGHUP is also what the kernel sends when the terminal is closed; that ends the cluster.
    """

    def __init__(self) -> None:
        super().__init__()
        self.restart_wanted = False
        self._has_terminal = _terminal_is_there()
        signal.signal(signal.SIGHUP, self._note_hangup)

    def _note_hangup(self, *_: object) -> None:
        if self._has_terminal and not _terminal_is_there():
            self.count += 1
        else:
            self.restart_wanted = True


def _terminal_is_there() -> bool:
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Given:
    """What the cluster is made from.

    Attributes:
        settings: the operator's; its folder is the cluster's own.
        keys: this machine's.
        tools: programs of others.
        gateway_port: nginx's.
    """

    settings: LocalSettings
    keys: LocalKeys
    tools: Tools
    gateway_port: int


class Cluster:
    """All of it.

    The listening sockets are opened here and stay open: a connection that comes while a service's
    process ends, or has been killed, waits in the queue of its socket until another takes it. The
    credits services share one socket, as behind a balancer; each proxy has its own, for nginx.
    """

    def __init__(self, given: Given, signals: ClusterSignals) -> None:
        self._given = given
        self._signals = signals
        self._data_dir = given.settings.data_dir
        # In the order in which they are started; they end in the order of `_ranks`.
        self._programs: list[Program] = []
        self._ranks: dict[str, int] = {}

    def start(self) -> None:
        """Start all of it and tell how to use it.

        Raises:
            LocalRunError: something did not come up.
            StopRequestedError: a signal came.
        """
        given, environment = self._given, self._given.settings.environment
        stores, plans = plan_stores(environment, given.tools, self._data_dir)
        self._launch(4, *plans)
        simulator_url = None
        if not given.settings.has_gemini_key:
            say("*** No GEMINI_API_KEY: a local SIMULATOR stands in for Gemini.")
            simulator, simulator_url = self._simulator()
            self._launch(3, simulator)
        self._wait_until_all_serve()
        credits_plans, credits_url = self._credits(stores)
        self._launch(2, *credits_plans)
        proxies, proxy_urls = self._proxies(stores, credits_url, simulator_url)
        self._launch(0, *proxies)
        nginx, certificate = self._nginx(proxy_urls)
        self._launch(1, nginx)
        self._wait_until_all_serve()
        self._add_demo_credit(credits_url)
        say(
            cluster_guide(
                url=f"https://localhost:{given.gateway_port}",
                certificate=certificate,
                proxies=proxy_urls,
                credits_url=credits_url,
                keys=given.keys,
            )
        )

    def run(self) -> None:
        """Start what ends anew, and restart at SIGHUP, until a signal ends it.

        Raises:
            LocalRunError: something ends again and again.
            StopRequestedError: a signal came.
        """
        while True:
            self._signals.check()
            self._tend()
            if self._signals.restart_wanted:
                self._signals.restart_wanted = False
                self._restart_services()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End all of it in order: proxies, nginx, ledger, stores; by force at a further signal."""
        already = max(1, self._signals.count)
        for rank in sorted(set(self._ranks.values())):
            group = [program for program in self._programs if self._ranks[program.name] == rank]
            for program in group:
                program.begin_end()
            while not all(program.is_over() for program in group):
                if self._signals.count > already:
                    for program in group:
                        program.kill()
                    break
                time.sleep(POLL_SECONDS)

    def _launch(self, rank: int, *plans: Plan) -> None:
        for plan in plans:
            self._signals.check()
            self._ranks[plan.name] = rank
            self._programs.append(Program(plan, self._data_dir, say))

    def _tend(self) -> None:
        for program in self._programs:
            program.tend()

    def _wait_until_all_serve(self) -> None:
        def serve() -> bool:
            for program in self._programs:
                program.check_start()
            return all(program.serves for program in self._programs)

        if not self._wait_until(serve, START_SECONDS):
            late = [program.name for program in self._programs if not program.serves]
            raise LocalRunError(
                f"{', '.join(late)}: not ready after {START_SECONDS} s. "
                f"See the logs in {self._data_dir / 'logs'}."
            )

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._signals.check()
            self._tend()
            time.sleep(POLL_SECONDS)
        return True

    def _restart_services(self) -> None:
        services = [program for program in self._programs if self._ranks[program.name] in {0, 2}]
        say(f"Restarting {', '.join(program.name for program in services)} …")
        for program in services:
            if not program.restart(self._wait_until):
                say("The restart has been given up.")
                return
        say("Every process of the services has been restarted.")

    def _service(
        self, name: str, command: str, environment: dict[str, str], listener: socket.socket
    ) -> Plan:
        """Plan a program of the project: it serves once each of its workers says so."""
        workers = int(environment["WORKERS"])
        drain = float(environment.get("DRAIN_SECONDS", "").strip() or _DRAIN_SECONDS)
        delay = float(environment["SHUTDOWN_DELAY_SECONDS"])
        return Plan(
            name,
            [str(Path(sys.executable).parent / command)],
            environment,
            lambda written: written.count(_STARTED) >= workers,
            listener=listener,
            end_seconds=delay + 1.5 * drain + _END_SECONDS,
        )

    def _simulator(self) -> tuple[Plan, str]:
        listener = bind(HOST, 0)
        environment = simulator_environment(self._given.settings)
        plan = self._service("simulator", "gemini-simulator", environment, listener)
        return plan, _url_of(listener)

    def _credits(self, stores: Stores) -> tuple[list[Plan], str]:
        listener = bind(HOST, 0)
        environment = credits_environment(self._given.settings, self._given.keys, stores)
        plans = [
            self._service(f"credits-{number}", "credits-service", environment, listener)
            for number in range(1, REPLICAS + 1)
        ]
        return plans, _url_of(listener)

    def _proxies(
        self, stores: Stores, credits_url: str, simulator_url: str | None
    ) -> tuple[list[Plan], list[str]]:
        plans, urls = [], []
        for number in range(1, REPLICAS + 1):
            listener = bind(HOST, 0)
            name = f"proxy-{number}"
            environment = proxy_environment(
                self._given.settings,
                self._given.keys,
                stores,
                name=name,
                credits_url=credits_url,
                simulator_url=simulator_url,
            )
            plans.append(self._service(name, "ai-proxy-service", environment, listener))
            urls.append(_url_of(listener))
        return plans, urls

    def _nginx(self, proxy_urls: list[str]) -> tuple[Plan, Path]:
        port = self._given.gateway_port
        folder = self._data_dir / "nginx"
        folder.mkdir(exist_ok=True)
        try:
            main = lay_out(folder, port, proxy_urls)
        except subprocess.CalledProcessError as error:
            raise LocalRunError(f"openssl made no certificate: {error.stderr!r}") from None
        # In the foreground, where its end is seen.
        command = nginx_command(self._given.tools.nginx, main, "daemon off;")
        environment = self._given.settings.environment
        return Plan("nginx", command, environment, lambda _: _listens(port)), certificate_of(main)

    def _add_demo_credit(self, credits_url: str) -> None:
        post_json(
            f"{credits_url}/api/v1/topup",
            {
                "user_id": DEMO_ACCOUNT,
                "amount": DEMO_CREDIT_USD,
                "reference": DEMO_CREDIT_REFERENCE,
            },
            {
                "authorization": f"Bearer {self._given.keys.admin}",
                "idempotency-key": DEMO_CREDIT_REFERENCE,
            },
            done_already="reference_used",
        )


def _url_of(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        return True
    return False
