"""`make cluster`: nginx, two of each service, restarted and killed under load.

`LAST_CREDIT_REQUESTS=1000` is the long form of the last credit; `-s` shows the figures.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster_settings import find_tools
from local_settings import LocalRunError

from support.answer_stores import new_key
from support.cluster import ROOT, RUNNER, SERVICES, Cluster, running_cluster
from support.cluster_load import Load, assert_all_charged, load_on
from support.key_holders import CHAT, ask, issue
from support.last_credit import SHARE_USED_LEAST, use_up
from support.many_asks import mixed
from support.postgres_cluster import wait_until
from support.stack import CLIENT_KEY, MODEL, TIMEOUT_SECONDS, Stack, price_usd, say

REQUESTS = int(os.environ.get("LAST_CREDIT_REQUESTS", "300"))
# In every run the hardest of them; with CLUSTER_KILLS=all the others, too.
KILLS = ["all processes"]
if os.environ.get("CLUSTER_KILLS") == "all":
    KILLS = ["a worker", "the first process", *KILLS]
UNLIMITED = "1000000"
RPM = 6


@dataclass(frozen=True)
class Killed:
    """What was killed.

    Attributes:
        leader: the service's first process, whether it was killed or not.
        processes: those that were.
        at: when all of them were dead, on the monotonic clock.
    """

    leader: int
    processes: frozenset[int]
    at: float


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(
        RATE_LIMIT_PER_MINUTE=UNLIMITED,
        RATE_LIMIT_COMPLETIONS_PER_MINUTE=UNLIMITED,
        # A busy machine must not look like a dead store.
        RATE_LIMIT_STORE_TIMEOUT_SECONDS="10",
        SIMULATOR_RECORDED_REQUESTS=str(4 * REQUESTS),
    ) as running:
        yield running


@pytest.fixture
def stack(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The system by way of nginx; every client of the test trusts its certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", cluster.certificate)
    stack = cluster.stack()
    with stack._exits:
        yield stack


def test_openai_s_client_is_served_over_tls_and_charged_exactly(stack: Stack) -> None:
    account = stack.account("1")
    chat = stack.openai().chat.completions
    whole = chat.create(model=MODEL, messages=say("hello"), user=account)
    assert whole.usage is not None
    gate = f"{account}-gate"
    stream = chat.create(
        model=MODEL,
        messages=say(f"[[sim tokens=8 chunk=4 thoughts=0 gate={gate} stall_after=4]]"),
        stream=True,
        stream_options={"include_usage": True},
        user=account,
    )
    chunks = iter(stream)
    # Gemini stands still: what has come so far has passed nginx alone.
    first = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content)
    stack.open_gate(gate)
    usage = [chunk.usage for chunk in chunks][-1]

    assert first.choices[0].finish_reason is None
    assert usage is not None
    charges = {-Decimal(charge["amount"]) for charge in stack.transactions(account)}
    assert charges == {price_usd(whole.usage), price_usd(usage)}


def test_a_key_s_limit_counts_over_both_proxies(cluster: Cluster, stack: Stack) -> None:
    key = issue(stack, stack.account("1"), rpm=RPM)["key"]
    first, second = cluster.proxy_urls
    with ThreadPoolExecutor(2 * RPM) as threads:
        answers = threads.map(lambda url: ask(url, key).status_code, [first, second] * RPM)
    assert sorted(answers) == [200] * RPM + [429] * RPM


def test_an_idempotency_key_is_answered_alike_by_both_proxies(
    cluster: Cluster, stack: Stack
) -> None:
    account = stack.account("1")
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "idempotency-key": new_key()}
    first, second = (
        httpx.post(
            f"{url}/v1/chat/completions",
            json={**CHAT, "user": account},
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )
        for url in cluster.proxy_urls
    )
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(stack.transactions(account)) == 1


def test_the_last_credit_is_used_up_and_never_more(stack: Stack) -> None:
    # What a busy machine lets a stream pour at once beyond its window is shortfall, on record; how
    # much is judged by the test of two proxies, which has less running beside it.
    used, _shortfall = use_up(stack, [stack.proxy], "cluster, mixed", mixed(REQUESTS))
    assert SHARE_USED_LEAST <= used <= 1


def test_a_rolling_restart_loses_no_request_and_no_charge(cluster: Cluster, stack: Stack) -> None:
    before = {name: (cluster.leader(name), cluster.workers(name)) for name in SERVICES}
    with load_on(cluster, stack.account("1000")) as load:
        load.wait_for_answers(2)
        cluster.restart()
        load.wait_for_answers(2)
    report("rolling restart", load)

    assert load.errors == []
    assert assert_all_charged(load, charges_of(stack, load)) == 0
    assert stack.balance(load.account)["held"] == 0
    stack.assert_ledger_is_sound()
    for name, (leader, workers) in before.items():
        assert cluster.leader(name) != leader
        assert not workers & cluster.workers(name)
        assert len(cluster.workers(name)) == len(workers) == 2


@pytest.mark.parametrize("name", ["proxy-1", "credits-1"])
@pytest.mark.parametrize("what", KILLS)
def test_a_kill_loses_only_what_was_inside_and_no_charge(
    cluster: Cluster, stack: Stack, name: str, what: str
) -> None:
    with load_on(cluster, stack.account("1000")) as load:
        load.wait_for_answers(2)
        killed = kill(cluster, name, what)
        wait_until_replaced(cluster, name, killed)
        load.wait_for_answers(2)
    report(f"{what} of {name} killed", load)

    assert {outcome.label for outcome in load.errors if outcome.sent_at > killed.at} == set()
    if what == "the first process":
        # Its workers serve on until they have been asked to end, and then finish what they do.
        assert load.errors == []
    if name == "proxy-1":
        assert_only_one_proxy_lost(cluster, load)
    more = assert_all_charged(load, charges_of(stack, load))
    assert more <= len(load.errors)
    stack.assert_ledger_is_sound()


def test_without_a_cluster_there_is_nothing_to_restart(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUNNER), "restart", str(tmp_path)],
        env={"PYTHONPATH": str(ROOT / "deploy" / "local")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Start one: make cluster" in done.stderr


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalRunError, match="apt install redis-server"):
        find_tools({"DATABASE_URL": "postgresql://somewhere/else"}, search=str(tmp_path))


def kill(cluster: Cluster, name: str, what: str) -> Killed:
    """End something of a service as a power cut would."""
    leader, workers = cluster.leader(name), cluster.workers(name)
    processes = {
        "a worker": {min(workers)},
        "the first process": {leader},
        "all processes": {leader, *workers},
    }[what]
    if what == "all processes":
        os.killpg(leader, signal.SIGKILL)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    # Until the last of their threads is gone their connections are open.
    wait_until("they are dead", lambda: not any(map(has_threads, processes)))
    return Killed(leader, frozenset(processes), time.monotonic())


def has_threads(process: int) -> bool:
    """Return whether any thread of a process is left, besides entries that wait for its parent."""
    for stat in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}:
                return True
    return False


def wait_until_replaced(cluster: Cluster, name: str, killed: Killed) -> None:
    """Return once there is a new process for each that was killed."""

    def replaced() -> bool:
        leader, workers = cluster.leader(name), cluster.workers(name)
        is_new = leader != killed.leader or leader not in killed.processes
        return is_new and len(workers) == 2 and not workers & killed.processes

    wait_until(f"{name} is complete again", replaced)


def assert_only_one_proxy_lost(cluster: Cluster, load: Load) -> None:
    """Check by nginx's log that what was lost was inside the first proxy."""
    log = cluster.folder / "cluster" / "nginx" / "access.log"
    lines = map(json.loads, log.read_text().splitlines())
    upstreams = {line["request_id"]: line["upstream"] for line in lines}
    address = cluster.proxy_urls[0].removeprefix("http://")
    for outcome in load.errors:
        assert outcome.kind != "bill", outcome
        assert address in upstreams[outcome.label], outcome


def charges_of(stack: Stack, load: Load) -> Callable[[], list[dict[str, Any]]]:
    return lambda: stack.transactions(load.account)


def report(title: str, load: Load) -> None:
    print(f"\n{title}: {load.figures()}")  # noqa: T201 - the figures that -s is for
