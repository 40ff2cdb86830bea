"""nginx as `deploy/nginx` sets it up, in front of two proxies, on TLS."""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from front import SOURCE, lay_out

from support.nginx import Nginx, nginx_command, running_nginx
from support.postgres_cluster import free_port, wait_until
from support.processes import ServiceProcess
from support.stack import CLIENT_KEY, MODEL, Stack, proxy_env, say

# Another address of this machine: what a client's own would be.
CLIENT_ADDRESS = "127.0.0.2"
CHAT = "/v1/chat/completions"
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Entrance:
    """nginx, and the two proxies behind it."""

    nginx: Nginx
    proxies: tuple[ServiceProcess, ServiceProcess]
    stack: Stack

    def client(self) -> httpx.Client:
        """Return a client with the address `CLIENT_ADDRESS`."""
        transport = httpx.HTTPTransport(
            verify=self.nginx.trust(), local_address=CLIENT_ADDRESS, retries=0
        )
        return httpx.Client(
            base_url=self.nginx.url,
            transport=transport,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=WAIT_SECONDS,
        )

    def access_lines(self) -> list[dict[str, Any]]:
        return [
            event
            for proxy in self.proxies
            for event in proxy.events()
            if event.get("event") == "request"
        ]


@pytest.fixture(scope="module")
def entrance(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entrance]:
    folder = tmp_path_factory.mktemp("entrance")
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    settings = {**proxy_env(urls, folder), "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    with (
        ServiceProcess("ai-proxy-service", settings, cwd=folder) as one,
        ServiceProcess("ai-proxy-service", settings, cwd=folder) as two,
        running_nginx(folder / "nginx", [one.url, two.url]) as nginx,
    ):
        yield Entrance(nginx, (one, two), stack)


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": say(text), **more}


def test_nginx_accepts_the_configuration_without_a_warning(tmp_path: Path) -> None:
    main = lay_out(tmp_path, free_port(), ["http://127.0.0.1:8002", "http://127.0.0.1:8012"])

    done = subprocess.run(
        [*nginx_command(main), "-t"], capture_output=True, text=True, check=False, timeout=30
    )

    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_compose_s_upstream_differs_only_in_how_the_proxies_are_found() -> None:
    def options(file: str) -> set[str]:
        block = (SOURCE / file).read_text().partition("upstream ai_proxy {")[2]
        lines = {line.strip() for line in block.splitlines()}
        return {
            re.sub(r"^server \S+( resolve)?", "server", line)
            for line in lines
            if not line.startswith("zone")
        }

    assert options("upstream.compose.conf") == options("upstream.conf")


def test_openai_s_client_sees_each_chunk_as_gemini_makes_it(entrance: Entrance) -> None:
    """Gemini makes a token only once the client has shown the one before."""
    gate = "through-nginx"
    user = entrance.stack.account("5")
    entrance.stack.release(gate, 1)
    shown = 0
    with (
        openai.DefaultHttpxClient(verify=entrance.nginx.trust(), timeout=WAIT_SECONDS) as http,
        openai.OpenAI(
            api_key=CLIENT_KEY, base_url=f"{entrance.nginx.url}/v1", max_retries=0, http_client=http
        ) as client,
    ):
        stream = client.chat.completions.create(
            stream=True,
            user=user,
            model=MODEL,
            messages=say(f"hi [[sim tokens=5 thoughts=0 gate={gate}]]"),
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                shown += 1
                entrance.stack.release(gate, 1)

    assert shown == 5
    assert len(entrance.stack.transactions(user)) == 1


def test_both_proxies_are_used(entrance: Entrance) -> None:
    with entrance.client() as client:
        for _ in range(6):
            assert client.get("/v1/models").status_code == 200

    for proxy in entrance.proxies:
        proxy.wait_for_event(event="request", path="/v1/models", status=200)


def test_the_client_s_address_is_seen_whatever_it_claims(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get(
            "/v1/models",
            headers={
                "x-forwarded-for": "203.0.113.9",
                "forwarded": "for=203.0.113.9",
                "x-request-id": "who-asks",
            },
        )

    assert answer.headers.get_list("x-request-id") == ["who-asks"]
    wait_until(
        "the request is logged",
        lambda: [line for line in entrance.access_lines() if line["request_id"] == "who-asks"],
    )
    (line,) = [line for line in entrance.access_lines() if line["request_id"] == "who-asks"]
    assert line["client"] == CLIENT_ADDRESS


def test_an_answer_has_one_request_id_which_both_logs_know(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get("/v1/models", headers={"x-request-id": "not acceptable;"})

    (request_id,) = answer.headers.get_list("x-request-id")
    assert re.fullmatch(r"req_[0-9a-f]{32}", request_id)
    wait_until(
        "the proxy has logged it",
        lambda: request_id in {line["request_id"] for line in entrance.access_lines()},
    )
    wait_until("nginx has logged it", lambda: request_id in entrance.nginx.log.read_text())
    logged = [json.loads(line) for line in entrance.nginx.log.read_text().splitlines()]
    assert CLIENT_ADDRESS in {line["client"] for line in logged}


def test_nginx_s_log_has_no_key_and_no_query(entrance: Entrance) -> None:
    with entrance.client() as client:
        client.get("/v1/models?key=AIzaSecretInAQuery", headers={"x-request-id": "with-a-query"})

    wait_until("nginx has logged it", lambda: "with-a-query" in entrance.nginx.log.read_text())
    log = entrance.nginx.log.read_text()
    assert CLIENT_KEY not in log
    assert "AIzaSecretInAQuery" not in log


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/docs", "/openapi.json", "/ready", "/chat/completions", "/v1/../metrics", "/"],
)
def test_what_is_not_the_api_is_not_public(entrance: Entrance, path: str) -> None:
    with entrance.client() as client:
        # A client of its own would resolve `..` before it sends it.
        answer = client.send(client.build_request("GET", "/", extensions={"target": path.encode()}))

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert answer.headers["strict-transport-security"]


def test_a_body_over_the_limit_is_refused_in_openai_s_form(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.post(CHAT, content=b" " * (20 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["code"] == "request_too_large"
    assert answer.headers["x-request-id"] in error["message"]


def test_headers_over_the_limit_are_refused(entrance: Entrance) -> None:
    with entrance.client() as client:
        answer = client.get("/v1/models", headers={"x-padding": "x" * 17_000})

    assert answer.status_code == 400
    assert "x-padding" not in answer.text


def test_a_client_that_does_not_finish_its_header_is_cut_off(
    entrance: Entrance, tmp_path: Path
) -> None:
    urls = [proxy.url for proxy in entrance.proxies]
    with (
        running_nginx(tmp_path / "impatient", urls, client_header_timeout="1s") as nginx,
        socket.create_connection(("127.0.0.1", nginx.port), timeout=WAIT_SECONDS) as connection,
        nginx.trust().wrap_socket(connection, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

        assert tls.recv(1024) == b""


class Swallower:
    """Takes requests as a proxy would, reads them whole, and ends the connection unanswered."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))

    def close(self) -> None:
        # Closing alone does not wake the thread that waits.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT_SECONDS)


@contextmanager
def swallower() -> Iterator[Swallower]:
    made = Swallower()
    try:
        yield made
    finally:
        made.close()


def test_a_post_that_may_have_been_served_is_never_sent_again(
    tmp_path: Path,
) -> None:
    with (
        swallower() as first,
        swallower() as second,
        running_nginx(tmp_path / "swallowed", [first.url, second.url]) as nginx,
        httpx.Client(base_url=nginx.url, verify=nginx.trust(), timeout=WAIT_SECONDS) as client,
    ):
        answer = client.post(CHAT, json=body("hello"))

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "gateway_unavailable"
    assert len(first.requests) + len(second.requests) == 1


def test_a_request_that_was_never_sent_goes_to_the_other_proxy(
    entrance: Entrance, tmp_path: Path
) -> None:
    """Every POST is served, whichever of the two nginx tries first."""
    user = entrance.stack.account("5")
    gone = f"http://127.0.0.1:{free_port()}"
    with (
        running_nginx(tmp_path / "half", [gone, entrance.proxies[0].url]) as nginx,
        httpx.Client(
            base_url=nginx.url,
            verify=nginx.trust(),
            timeout=WAIT_SECONDS,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
        ) as client,
    ):
        statuses = [client.post(CHAT, json=body("hello", user=user)).status_code for _ in range(5)]
        upstreams = re.findall(r'"upstream":"([^"]*)"', nginx.log.read_text())

    assert statuses == [200] * 5
    assert any("," in upstream for upstream in upstreams)
    assert len(entrance.stack.transactions(user)) == 5


def test_no_proxy_at_all_is_told_in_openai_s_form(tmp_path: Path) -> None:
    gone = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with (
        running_nginx(tmp_path / "nobody", gone) as nginx,
        httpx.Client(base_url=nginx.url, verify=nginx.trust(), timeout=WAIT_SECONDS) as client,
    ):
        answer = client.post(CHAT, json=body("hello"))

    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["type"] == "server_error"
    assert answer.headers["x-request-id"] in error["message"]
