"""Proxies of several workers: who answered what, and the end of a worker or of all at once."""

import asyncio
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.mmap_dict import MmapedDict

from service_kit.metrics import MULTIPROCESS_FOLDER
from support.processes import ServiceProcess
from support.stack import TIMEOUT_SECONDS, Stack, proxy_env

WORKERS = 2
CONNECTIONS = 64
CHAT_PATH = "/v1/chat/completions"
# A busy machine must not look like a dead store.
PATIENT_SECONDS = "10"


class WorkerProxy:
    """A proxy of several workers.

    Attributes:
        process: the one that has started them.
    """

    def __init__(self, process: ServiceProcess, metrics: Path) -> None:
        self.process = process
        self._metrics = metrics

    @property
    def url(self) -> str:
        """The base URL."""
        return self.process.url

    def workers(self) -> set[int]:
        """Return the process ids of the workers that serve: each has figures of its own."""
        children = {
            int(child)
            for file in Path(f"/proc/{self.process.process.pid}/task").glob("*/children")
            for child in file.read_text().split()
        }
        return children & {int(file.stem.partition("_")[2]) for file in self._counters()}

    def _counters(self) -> Iterator[Path]:
        return self._metrics.glob("counter_*.db")

    def answered(self, **labels: str) -> Counter[int]:
        """Return how many requests each worker has answered, those with these labels."""
        return self._counted("http_server_requests_total", labels)

    def store_errors(self) -> int:
        """Return how often the limits' store did not answer in time."""
        return self._counted("rate_limit_store_errors_total", {}).total()

    def _counted(self, sample: str, labels: Mapping[str, str]) -> Counter[int]:
        counts: Counter[int] = Counter()
        for file in self._counters():
            values: Any = MmapedDict.read_all_values_from_file(file)  # type: ignore[no-untyped-call]  # library is untyped here
            for text, value, *_ in values:
                _, name, found, _ = json.loads(text)
                if name == sample and labels.items() <= found.items():
                    counts[int(file.stem.partition("_")[2])] += int(value)
        return counts

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Let one worker take all connections for a moment: the others stand still."""
        others = self.workers() - {worker}
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def kill(self) -> None:
        """End all of it as a power cut would."""
        # Stopped, it replaces no worker.
        self.process.process.send_signal(signal.SIGSTOP)
        for worker in self.workers():
            os.kill(worker, signal.SIGKILL)
        self.process.kill()


@contextmanager
def worker_proxies(
    stack: Stack, folder: Path, settings: Mapping[str, str], *, count: int = 2
) -> Iterator[list[WorkerProxy]]:
    """Run proxies on the stack's ledger and simulator.

    They believe `X-Forwarded-For`, as behind a load balancer, so that a test can ask from
    addresses that nobody else counts on.

    Args:
        stack: the running system.
        folder: where they keep their files, each in one of its own.
        settings: more of them, by their names.
        count: of proxies.
    """
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    with ExitStack() as exits:
        proxies = []
        for number in range(count):
            metrics = folder / f"metrics-{number}"
            metrics.mkdir()
            env = {
                **proxy_env(urls, folder / f"proxy-{number}"),
                "RATE_LIMIT_ENABLED": "true",
                "RATE_LIMIT_STORE_TIMEOUT_SECONDS": PATIENT_SECONDS,
                "FORWARDED_ALLOW_IPS": "127.0.0.1",
                "WORKERS": str(WORKERS),
                MULTIPROCESS_FOLDER: str(metrics),
                **settings,
            }
            process = ServiceProcess("ai-proxy-service", env, cwd=folder)
            exits.push(process)
            proxies.append(WorkerProxy(process, metrics))
        for proxy in proxies:
            # Of the workers none is to come late, and leave the others all of the load.
            proxy.process.wait_until_listening()
            proxy.process.wait_for_log(
                "Application startup complete", 2 * TIMEOUT_SECONDS, times=WORKERS
            )
        yield proxies


def new_address() -> str:
    """Return a client's address that counts for nobody else: networks of IPv6 count as one."""
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


def ask_all(
    proxies: Sequence[WorkerProxy],
    requests: int,
    key: str,
    address: Callable[[], str],
    body: Any = None,
) -> list[httpx.Response]:
    """Ask that often at once, of each proxy in turn: for completions, or for the models."""

    async def run() -> list[httpx.Response]:
        # A connection for each request: a worker keeps those that it has taken.
        connections = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            headers=headers, limits=connections, timeout=httpx.Timeout(TIMEOUT_SECONDS)
        ) as client:

            async def ask(number: int) -> httpx.Response:
                url = proxies[number % len(proxies)].url
                whose = {"x-forwarded-for": address()}
                if body is None:
                    return await client.get(f"{url}/v1/models", headers=whose)
                return await client.post(f"{url}{CHAT_PATH}", json=body, headers=whose)

            return await asyncio.gather(*(ask(number) for number in range(requests)))

    return asyncio.run(run())


def answered(proxies: Sequence[WorkerProxy], **labels: str) -> Counter[int]:
    """Return how many requests each worker of all proxies has answered."""
    return sum((proxy.answered(**labels) for proxy in proxies), Counter())
