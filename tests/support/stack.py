"""The whole system as real processes: simulator, credits service, proxy."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionMessageParam

from support.canaries import assert_nothing_leaked
from support.processes import ServiceProcess

CLIENT_KEY = "sk-client-5d1f7a9c3b2e8460"
SERVICE_KEY = "sk-service-5d1f7a9c3b2e8460"
ADMIN_KEY = "sk-admin-5d1f7a9c3b2e8460"
GEMINI_KEY = "AIzaCanary5d1f7a9c3b2e8460"
MODEL = "gemini-2.5-flash"
INPUT_USD = Decimal("0.0000003")
OUTPUT_USD = Decimal("0.0000025")
TIMEOUT_SECONDS = 60


def _search(response: httpx.Response) -> None:
    """Fail if an answer's headers, or an error's body, show a secret."""
    shown = [("an answer's headers", str(response.headers))]
    if response.is_error:
        shown.append(("an error's body", response.read().decode("utf-8", "replace")))
    assert_nothing_leaked(shown, private_texts=False)


_SEARCHED = {"response": [_search]}


def say(text: str) -> list[ChatCompletionMessageParam]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": text}]


def price_usd(usage: Any) -> Decimal:
    """Return what `MODEL` charges for an OpenAI usage object."""
    return Decimal(usage.prompt_tokens) * INPUT_USD + Decimal(usage.completion_tokens) * OUTPUT_USD


@dataclass
class Stack:
    """The running system.

    Attributes:
        folder: where the processes keep their data.
        simulator: stands in for Gemini.
        ledger: the credits service.
        proxy: the proxy.
    """

    folder: Path
    ledger_url: str
    simulator: ServiceProcess
    ledger: ServiceProcess
    proxy: ServiceProcess
    _exits: ExitStack = field(default_factory=ExitStack)
    _clients: dict[tuple[str, str | None], httpx.Client] = field(default_factory=dict)

    def openai(self, *, key: str = CLIENT_KEY) -> openai.OpenAI:
        """Return the official client; it does not retry, so that each answer is seen."""
        return self._exits.enter_context(
            openai.OpenAI(
                api_key=key,
                base_url=f"{self.proxy.url}/v1",
                max_retries=0,
                timeout=TIMEOUT_SECONDS,
                http_client=openai.DefaultHttpxClient(event_hooks=_SEARCHED),
            )
        )

    def http(self, base_url: str, key: str | None) -> httpx.Client:
        """Return a plain HTTP client; making one takes long, so that each is kept."""
        if (base_url, key) not in self._clients:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            self._clients[base_url, key] = self._exits.enter_context(
                httpx.Client(
                    base_url=base_url,
                    headers=headers,
                    timeout=TIMEOUT_SECONDS,
                    event_hooks=_SEARCHED,
                )
            )
        return self._clients[base_url, key]

    def account(self, usd: str | None = None) -> str:
        """Return the name of a new account, with credit if an amount is given."""
        name = f"user-{uuid.uuid4().hex[:12]}"
        if usd is not None:
            answer = self.http(self.ledger.url, ADMIN_KEY).post(
                "/api/v1/topup",
                json={"user_id": name, "amount": usd},
                headers={"idempotency-key": f"topup-{name}"},
            )
            assert answer.status_code == 201, answer.text
        return name

    def balance(self, account: str) -> dict[str, Decimal]:
        """Return an account's balance, held and available, in USD."""
        answer = self.http(self.ledger.url, SERVICE_KEY).get(f"/api/v1/accounts/{account}")
        assert answer.status_code == 200, answer.text
        figures = answer.json()
        return {name: Decimal(figures[name]) for name in ("balance", "held", "available")}

    def transactions(self, account: str, kind: str = "charge") -> list[dict[str, Any]]:
        """Return all transactions of a kind, latest first."""
        client = self.http(self.ledger.url, SERVICE_KEY)
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": "500", **({"cursor": cursor} if cursor else {})}
            page = client.get(f"/api/v1/accounts/{account}/transactions", params=params).json()
            found += [item for item in page["transactions"] if item["kind"] == kind]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def assert_ledger_is_sound(self) -> None:
        """Check every invariant of the ledger."""
        answer = self.http(self.ledger.url, ADMIN_KEY).get("/api/v1/integrity")
        assert answer.status_code == 200, answer.text
        assert answer.json()["violations"] == []

    def release(self, gate: str, tokens: int) -> None:
        """Let the simulator produce so many more tokens of the streams at a gate."""
        self._control("POST", f"/control/gates/{gate}", json={"tokens": tokens})

    def open_gate(self, gate: str) -> None:
        """Let the simulator produce the rest of the streams at a gate."""
        self._control("DELETE", f"/control/gates/{gate}")

    def wait_at_gate(self, gate: str, streams: int = 1) -> None:
        """Return once so many streams stand at a gate."""
        self._control("GET", f"/control/gates/{gate}", params={"waiting": streams, "timeout": 30})

    def wait_for_upstream(self, **conditions: str) -> list[dict[str, Any]]:
        """Return what the simulator has received, once the conditions hold."""
        query = {"timeout": "30", **conditions}
        answer = self._control("GET", "/control/requests", params=query)
        requests: list[dict[str, Any]] = answer["requests"]
        return requests

    def forget_upstream(self) -> None:
        """Forget what the simulator has received."""
        self._control("DELETE", "/control/requests")

    def _control(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http(self.simulator.url, None).request(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


def ledger_env(url: str, folder: Path) -> dict[str, str]:
    """Return the settings of a credits service."""
    return {
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "API_KEYS": f"proxy:{SERVICE_KEY}",
        "ADMIN_API_KEYS": f"operator:{ADMIN_KEY}",
        "RATE_LIMIT_ENABLED": "false",
    }


def proxy_env(stack_urls: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the settings of a proxy."""
    return {
        "API_KEYS": f"tester:{CLIENT_KEY}",
        "GEMINI_API_KEY": GEMINI_KEY,
        "GEMINI_BASE_URL": stack_urls["simulator"],
        "CREDITS_SERVICE_URL": stack_urls["ledger"],
        "CREDITS_SERVICE_API_KEY": SERVICE_KEY,
        "DATA_DIR": str(folder),
        "RATE_LIMIT_ENABLED": "false",
        # A test that fails with a stream open must not hold up the others.
        "DRAIN_SECONDS": "3",
    }


@contextmanager
def running_stack(
    folder: Path,
    ledger_url: str,
    proxy_settings: Mapping[str, str] | None = None,
    ledger_settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start all three processes; stop them, proxy first, at the end."""
    with ExitStack() as exits:
        simulator = exits.enter_context(ServiceProcess("gemini-simulator", {}, cwd=folder))
        of_ledger = {**ledger_env(ledger_url, folder), **(ledger_settings or {})}
        ledger = exits.enter_context(ServiceProcess("credits-service", of_ledger, cwd=folder))
        urls = {"simulator": simulator.url, "ledger": ledger.url}
        env = {**proxy_env(urls, folder), **(proxy_settings or {})}
        proxy = exits.enter_context(ServiceProcess("ai-proxy-service", env, cwd=folder))
        stack = Stack(folder, ledger_url, simulator, ledger, proxy)
        with stack._exits:
            yield stack
