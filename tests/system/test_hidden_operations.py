"""Both services keep to themselves what an operator does not want shown."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from support.postgres_cluster import free_port
from support.processes import ServiceProcess
from support.stack import ADMIN_KEY, CLIENT_KEY, ledger_env, proxy_env


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str, str]]]:
    """Start both; for each return its public URL, that of its metrics, and a key."""
    folder = tmp_path_factory.mktemp("services")
    ports = free_port(), free_port()
    hidden = [{"METRICS_PORT": str(port), "DOCS_ENABLED": "false"} for port in ports]
    with ExitStack() as stack:
        env = {**ledger_env("", folder), **hidden[0]}
        ledger = stack.enter_context(ServiceProcess("credits-service", env, cwd=folder))
        urls = {"ledger": ledger.url, "simulator": "http://127.0.0.1:9"}
        env = {**proxy_env(urls, folder), **hidden[1]}
        proxy = stack.enter_context(ServiceProcess("ai-proxy-service", env, cwd=folder))
        yield {
            "credits-service": (ledger.url, f"http://127.0.0.1:{ports[0]}", ADMIN_KEY),
            "ai-proxy-service": (proxy.url, f"http://127.0.0.1:{ports[1]}", CLIENT_KEY),
        }


@pytest.mark.parametrize("name", ["credits-service", "ai-proxy-service"])
@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/docs/oauth2-redirect", "/redoc", "/metrics"]
)
def test_nobody_finds_what_is_hidden(
    services: dict[str, tuple[str, str, str]], name: str, path: str
) -> None:
    public, _operators, key = services[name]
    answer = httpx.get(f"{public}{path}", headers={"authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 404
    assert httpx.get(f"{public}{path}", timeout=30).status_code in {401, 404}


@pytest.mark.parametrize("name", ["credits-service", "ai-proxy-service"])
def test_operators_find_the_metrics(services: dict[str, tuple[str, str, str]], name: str) -> None:
    _public, operators, _key = services[name]
    assert httpx.get(f"{operators}/metrics", timeout=30).json()["service"] == name
    assert httpx.get(f"{operators}/health", timeout=30).status_code == 200
    assert httpx.get(f"{operators}/docs", timeout=30).status_code == 404
