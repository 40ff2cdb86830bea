"""The same key on two proxies that share a store: one answer, one charge in the ledger."""

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ai_proxy_service.core import kept_answers
from support.answer_stores import SHARED_KINDS, new_key, store_uri
from support.live_server import live_server
from support.processes import ServiceProcess
from support.proxy_app import proxy_app
from support.stack import (
    CLIENT_KEY,
    MODEL,
    SERVICE_KEY,
    TIMEOUT_SECONDS,
    Stack,
    price_usd,
    proxy_env,
    running_stack,
    say,
)

OTHER_KEY = "sk-other-5d1f7a9c3b2e8460"


@dataclass
class Pair:
    """A system with a second proxy.

    Attributes:
        http: asks either of them.
        stack: the system.
        other_url: the second proxy's.
        settings: of both proxies, besides the usual ones.
    """

    http: httpx.Client
    stack: Stack
    other_url: str
    settings: Mapping[str, str]

    @property
    def urls(self) -> list[str]:
        """Both proxies."""
        return [self.stack.proxy.url, self.other_url]


@pytest.fixture(scope="module", params=SHARED_KINDS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    settings = {
        "ANSWER_STORE_URI": store_uri(request.param),
        "API_KEYS": f"tester:{CLIENT_KEY},other:{OTHER_KEY}",
        # What a key promises does not depend on it.
        "ON_DISCONNECT": "cancel",
    }
    with running_stack(folder, f"sqlite+aiosqlite:///{folder / 'l.sqlite3'}", settings) as stack:
        urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
        env = {**proxy_env(urls, folder), **settings}
        with (
            ServiceProcess("ai-proxy-service", env, cwd=folder) as other,
            httpx.Client(timeout=TIMEOUT_SECONDS) as http,
        ):
            yield Pair(http, stack, other.url, settings)
            stack.assert_ledger_is_sound()


def request(
    url: str, key: str, account: str, text: str, *, stream: bool, api_key: str = CLIENT_KEY
) -> dict[str, Any]:
    """Return what httpx makes a request for a completion of."""
    body = {"model": MODEL, "messages": say(text), "user": account, "stream": stream}
    return {
        "method": "POST",
        "url": f"{url}/v1/chat/completions",
        "headers": {"authorization": f"Bearer {api_key}", "idempotency-key": key},
        "json": body,
    }


@contextlib.contextmanager
def streaming(
    http: httpx.Client, url: str, key: str, account: str, text: str
) -> Iterator[Iterator[str]]:
    """Open a stream; yields its lines with something in them."""
    with http.stream(**request(url, key, account, text, stream=True)) as answer:
        yield (line for line in answer.iter_lines() if line.startswith("data: "))


def charges(stack: Stack, account: str) -> list[Decimal]:
    """Return what an account was charged, in USD."""
    return [-Decimal(charge["amount"]) for charge in stack.transactions(account)]


def test_who_joins_on_another_proxy_reads_the_answer_as_it_comes(pair: Pair) -> None:
    stack, key, account = pair.stack, new_key(), pair.stack.account("1")
    gate = f"joined-{account}"
    text = f"[[sim tokens=9 thoughts=0 gate={gate}]]"
    stack.release(gate, 3)
    with (
        streaming(pair.http, pair.urls[0], key, account, text) as first,
        ThreadPoolExecutor() as clients,
    ):
        beginning = [next(first)]
        with streaming(pair.http, pair.urls[1], key, account, text) as joined:
            # While the first one still runs.
            assert next(joined) == beginning[0]
            stack.open_gate(gate)
            rests: list[list[str]] = list(clients.map(list, [first, joined]))

    assert rests[0] == rests[1]
    assert rests[0][-1] == "data: [DONE]"
    again = [
        pair.http.request(**request(url, key, account, text, stream=True)) for url in pair.urls
    ]
    assert again[0].content == again[1].content
    assert len(charges(stack, account)) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_many_repeats_on_both_proxies_are_one_answer_and_one_charge(
    pair: Pair, *, stream: bool
) -> None:
    stack, key, account = pair.stack, new_key(), pair.stack.account("1")
    with ThreadPoolExecutor(12) as clients:
        answers = list(
            clients.map(
                lambda number: pair.http.request(
                    **request(pair.urls[number % 2], key, account, "hello", stream=stream)
                ),
                range(12),
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    replayed = [answer.headers.get("idempotency-replayed") for answer in answers]
    assert replayed.count("true") == 11
    assert len({answer.headers["x-request-id"] for answer in answers}) == 12
    assert len(charges(stack, account)) == 1


def test_a_client_that_leaves_in_mid_stream_gets_the_whole_answer_when_it_repeats(
    pair: Pair,
) -> None:
    stack, key, account = pair.stack, new_key(), pair.stack.account("1")
    gate = f"left-{account}"
    text = f"[[sim tokens=9 thoughts=0 gate={gate}]]"
    stack.release(gate, 3)
    with streaming(pair.http, pair.urls[0], key, account, text) as lines:
        next(lines)
    stack.open_gate(gate)

    again = pair.http.request(**request(pair.urls[1], key, account, text, stream=True))

    assert again.headers["idempotency-replayed"] == "true"
    assert again.text.rstrip().endswith("data: [DONE]")
    (charge,) = stack.transactions(account)
    assert charge["usage"]["candidates_tokens"] == 9
    assert "estimated" not in charge["metadata"]


def test_the_official_client_gets_the_same_completion_again(pair: Pair) -> None:
    stack, account = pair.stack, pair.stack.account("1")
    headers = {"Idempotency-Key": new_key()}
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": say("hello"),
        "user": account,
        "extra_headers": headers,
    }
    client = stack.openai()
    first, again = [client.chat.completions.create(**asked) for _ in range(2)]

    assert first.id == again.id
    assert first == again
    assert charges(stack, account) == [price_usd(first.usage)]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, max_tokens=9)
    assert (caught.value.code, caught.value.param) == ("idempotency_key_reused", "Idempotency-Key")


def test_keys_of_others_never_meet(pair: Pair) -> None:
    stack, key, account = pair.stack, new_key(), pair.stack.account("1")
    answers = [
        pair.http.request(
            **request(pair.urls[0], key, account, "hello", stream=False, api_key=api_key)
        )
        for api_key in (CLIENT_KEY, OTHER_KEY)
    ]

    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert len(charges(stack, account)) == 2


def test_a_key_whose_proxy_was_killed_is_answered_anew_once_and_its_hold_stands(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead process had used is charged when its hold expires, as without a key."""
    stack, key, account = pair.stack, new_key(), pair.stack.account("1")
    gate = f"killed-{account}"
    text = f"[[sim tokens=9 thoughts=0 gate={gate}]]"
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    env = {**proxy_env(urls, stack.folder), **pair.settings}
    stack.release(gate, 3)
    with (
        ServiceProcess("ai-proxy-service", env, cwd=stack.folder) as doomed,
        contextlib.suppress(httpx.HTTPError),
        streaming(pair.http, doomed.url, key, account, text) as lines,
    ):
        next(lines)
        doomed.kill()
        list(lines)
    held = stack.balance(account)["held"]
    stack.open_gate(gate)

    # As long as nobody has been silent for long, the key is not given to anyone else.
    monkeypatch.setattr(kept_answers, "SILENCE_SECONDS_MAX", 2)
    with live_proxies(pair, urls) as proxies, ThreadPoolExecutor() as clients:
        answers = list(
            clients.map(
                lambda url: pair.http.request(**request(url, key, account, text, stream=True)),
                proxies * 2,
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3
    assert len(charges(stack, account)) == 1
    assert stack.balance(account)["held"] == held > 0


@contextlib.contextmanager
def live_proxies(pair: Pair, urls: Mapping[str, str]) -> Iterator[list[str]]:
    """Two proxies in the test's own process, over the store of the pair."""
    with contextlib.ExitStack() as exits:
        yield [
            exits.enter_context(
                live_server(
                    proxy_app(
                        urls,
                        SERVICE_KEY,
                        pair.stack.folder,
                        answer_store_uri=pair.settings["ANSWER_STORE_URI"],
                    )
                )
            )
            for _ in range(2)
        ]


def test_workers_of_one_proxy_share_what_they_know(stack: Stack, tmp_path: Path) -> None:
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    env = {**proxy_env(urls, tmp_path), "WORKERS": "2"}
    key, account = new_key(), stack.account("1")
    with (
        ServiceProcess("ai-proxy-service", env, cwd=tmp_path) as proxy,
        # Each request has a connection of its own, which either worker may take.
        httpx.Client(
            timeout=TIMEOUT_SECONDS, limits=httpx.Limits(max_keepalive_connections=0)
        ) as http,
        ThreadPoolExecutor(16) as clients,
    ):
        asked = request(proxy.url, key, account, "hello", stream=False)
        answers = list(clients.map(lambda _: http.request(**asked), range(32)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(charges(stack, account)) == 1


def test_a_proxy_whose_store_does_not_answer_serves_what_has_no_key(
    stack: Stack, tmp_path: Path
) -> None:
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    app = proxy_app(urls, SERVICE_KEY, tmp_path, answer_store_uri="redis://127.0.0.1:1")
    account = stack.account("1")
    with live_server(app) as url, httpx.Client(timeout=TIMEOUT_SECONDS) as http:
        asked = request(url, new_key(), account, "hello", stream=False)
        refused = http.request(**asked)
        del asked["headers"]["idempotency-key"]
        served = http.request(**asked)

    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "idempotency_unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert served.status_code == 200
    assert len(charges(stack, account)) == 1
