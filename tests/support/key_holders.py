"""Keys that the running credits service has issued, and who asks with them."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.canaries import plant
from support.live_server import live_server
from support.proxy_app import proxy_app
from support.stack import ADMIN_KEY, MODEL, SERVICE_KEY, TIMEOUT_SECONDS, Stack, say

COMMAND = Path(sys.executable).parent / "credits"
CHAT = {"model": MODEL, "messages": say("hi")}


def admin(stack: Stack, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Ask the credits service as its operator."""
    headers = {} if method == "GET" else {"idempotency-key": uuid.uuid4().hex}
    client = stack.http(stack.ledger.url, ADMIN_KEY)
    answer = client.request(method, f"/api/v1{path}", json=body, headers=headers)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def issue(stack: Stack, account: str, **fields: Any) -> dict[str, Any]:
    """Make a key for an account."""
    made = admin(stack, "POST", "/keys", {"account": account, "name": "laptop", **fields})
    plant(made["key"], "an issued key")
    return made


def ask(url: str, key: str, **fields: Any) -> httpx.Response:
    """Ask for a completion."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(
        f"{url}/v1/chat/completions",
        json={**CHAT, **fields},
        headers=headers,
        timeout=TIMEOUT_SECONDS,
    )


@contextmanager
def two_proxies(stack: Stack, folder: Path, **settings: Any) -> Iterator[tuple[str, str]]:
    """Run two proxies in this process, on the stack's ledger and simulator."""
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    with ExitStack() as exits:
        first, second = (
            exits.enter_context(
                live_server(proxy_app(urls, SERVICE_KEY, folder / name, **settings))
            )
            for name in ("left", "right")
        )
        yield first, second


def credits_command(stack: Stack, *arguments: str) -> dict[str, Any]:
    """Run the credits command as the operator, and return its answer."""
    env = {"CREDITS_SERVICE_URL": stack.ledger.url, "CREDITS_API_KEY": ADMIN_KEY}
    done = subprocess.run(
        [str(COMMAND), *arguments, "--json"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
