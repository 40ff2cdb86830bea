"""A system that says all it can: logs at DEBUG, asyncio's debug mode, and a Gemini that repeats."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.canaries import PROMPT, TOKEN, assert_nothing_leaked
from support.hostile_gemini import hostile_gemini
from support.postgres_cluster import free_port
from support.processes import ServiceProcess
from support.stack import MODEL, Stack, ledger_env, proxy_env
from support.trace_collector import TraceCollector

# Not of a form that the log's mask knows.
CLIENT_KEY = "Client9f1d7a3c5b2e8460zq"
GEMINI_KEY = "Gemini-2c4e6a8b0d1f3579zq"
PASSWORD = "p4ssw0rd-9f1d7a3c5bzq"
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
TIMEOUT_SECONDS = 60
TALKATIVE = {"LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}
numbers = itertools.count(1)


@dataclass(frozen=True)
class Loud:
    """A system that says all it can.

    Attributes:
        stack: its processes; this proxy's Gemini is the simulator.
        hostile: proxies whose Gemini repeats what it is sent, by the client they use.
    """

    stack: Stack
    hostile: Mapping[str, ServiceProcess]


def loud_proxy_settings(urls: Mapping[str, str], folder: Path, **settings: str) -> dict[str, str]:
    """Return the settings of a proxy that says all it can, with keys that no mask knows."""
    keys = {"API_KEYS": f"tester:{CLIENT_KEY}", "GEMINI_API_KEY": GEMINI_KEY}
    return {**proxy_env(urls, folder), **keys, **TALKATIVE, **settings}


@contextmanager
def loud_system(folder: Path) -> Iterator[Loud]:
    """Run it, and stop it at the end."""
    ledger_url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    settings = {
        **ledger_env(ledger_url, folder),
        **TALKATIVE,
        "WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/{TOKEN}?token={TOKEN}",
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
        "WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
        "LOW_BALANCE_USD": "10",
    }
    with ExitStack() as exits:
        # Entered first: the last spans come when the processes end.
        traces = exits.enter_context(TraceCollector())
        exits.callback(_search_traces, traces)
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = traces.url
        simulator = exits.enter_context(ServiceProcess("gemini-simulator", {}, cwd=folder))
        ledger = exits.enter_context(ServiceProcess("credits-service", settings, cwd=folder))
        urls = {"simulator": simulator.url, "ledger": ledger.url}
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.url}
        env = loud_proxy_settings(urls, folder, **traced)
        proxy = exits.enter_context(ServiceProcess("ai-proxy-service", env, cwd=folder))
        urls["simulator"] = exits.enter_context(hostile_gemini())
        hostile = {}
        for client in ("rest", "sdk"):
            env = loud_proxy_settings(urls, folder / client, GEMINI_CLIENT=client, **traced)
            hostile[client] = exits.enter_context(
                ServiceProcess("ai-proxy-service", env, cwd=folder)
            )
        stack = Stack(folder, ledger_url, simulator, ledger, proxy)
        with stack._exits:
            yield Loud(stack, hostile)


def _search_traces(traces: TraceCollector) -> None:
    assert traces.spans
    assert_nothing_leaked([("traces", body.decode("latin-1")) for body in traces.raw])


def conversation(order: str) -> list[dict[str, Any]]:
    """Return a conversation that must stay private, with an order to who answers."""
    return [
        {"role": "system", "content": f"Be brief. {PROMPT}"},
        {"role": "user", "content": f"{PROMPT} {order}"},
    ]


def ask(process: ServiceProcess, **fields: Any) -> httpx.Response:
    """Ask for a completion, and search the answer for what it must not show."""
    body = {"model": MODEL, "messages": conversation(""), **fields}
    return send(process, "/v1/chat/completions", json=body)


def send(process: ServiceProcess, path: str, **options: Any) -> httpx.Response:
    """Send a request; see `ask`."""
    headers = {"authorization": f"Bearer {CLIENT_KEY}", **options.pop("headers", {})}
    request_id = f"canary-{next(numbers)}"
    answer = httpx.post(
        f"{process.url}{path}",
        headers={"x-request-id": request_id, **headers},
        timeout=TIMEOUT_SECONDS,
        **options,
    )
    assert answer.headers["x-request-id"] == request_id
    if answer.is_error or "error" in answer.text:
        assert_nothing_leaked(
            [("the error's body", answer.text), ("the error's headers", str(answer.headers))]
        )
    return answer


def assert_silent(process: ServiceProcess) -> None:
    """Search a process once it has written the line of the last request."""
    process.wait_for_log(f'"canary-{next(numbers) - 1}"')
    process.assert_nothing_leaked()
