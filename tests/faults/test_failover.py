"""The primary dies under load and its synchronous standby is promoted: no answer becomes untrue.

The service is told both servers at start, and goes on without a restart.
"""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx

from credits.client import CreditsClient, credits_process
from credits.load import Request, send_at_once
from support.postgres_cluster import (
    HOST,
    PostgresServer,
    postgres_server,
    running_standby,
    wait_until,
)
from support.processes import ServiceProcess

CHARGES = 120
CLIENTS = 4
FUNDED = 1000


def _url_of_both(primary: PostgresServer, standby: PostgresServer) -> str:
    servers = f"{HOST}:{primary.port},{HOST}:{standby.port}"
    return f"postgresql://postgres@{servers}/ledger?target_session_attrs=read-write"


def _requests(client: int) -> list[Request]:
    return [
        ("/bill", {"user_id": f"user-{n % 3}", "amount": "1"}, f"client-{client}-{n}")
        for n in range(CHARGES // CLIENTS)
    ]


async def _load_while_failing_over(
    process: ServiceProcess, primary: PostgresServer, standby: PostgresServer
) -> list[httpx.Response | httpx.TransportError]:
    """Send charges one after the other from each client; kill when a part is answered."""
    answers: list[httpx.Response | httpx.TransportError] = []
    enough = asyncio.Event()

    async def client(requests: list[Request]) -> None:
        for request in requests:
            answers.extend(await send_at_once([process.url], [request]))
            if len(answers) > CHARGES // 4:
                enough.set()

    async def nemesis() -> None:
        await enough.wait()
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)

    await asyncio.gather(nemesis(), *(client(_requests(number)) for number in range(CLIENTS)))
    return answers


def test_a_promoted_standby_has_every_acknowledged_charge_exactly_once() -> None:
    requests = [request for number in range(CLIENTS) for request in _requests(number)]
    with (
        postgres_server() as primary,
        running_standby(primary) as standby,
        credits_process(_url_of_both(primary, standby)) as process,
        CreditsClient(process.url) as client,
    ):
        for number in range(3):
            client.top_up(f"user-{number}", str(FUNDED))
        during = asyncio.run(_load_while_failing_over(process, primary, standby))
        assert all(isinstance(answer, httpx.Response) for answer in during)
        acknowledged = {}
        for answer in during:
            assert isinstance(answer, httpx.Response)
            assert answer.status_code in {200, 503}, answer.text
            if answer.status_code == 200:
                acknowledged[answer.json()["transaction_id"]] = answer.content
        client.assert_sound()
        booked = _charges(client)
        assert set(acknowledged) <= set(booked), "acknowledged, and not in the ledger"

        # Its key tells what became of each one that was not answered.
        again = asyncio.run(send_at_once([process.url], requests))
        contents = {
            answer.json()["transaction_id"]: answer.content
            for answer in again
            if isinstance(answer, httpx.Response)
        }
        assert len(contents) == CHARGES
        assert all(contents[name] == body for name, body in acknowledged.items())
        assert set(_charges(client)) == set(contents)
        client.assert_sound()


def _charges(client: CreditsClient) -> list[str]:
    found = [
        booked["transaction_id"]
        for number in range(3)
        for booked in client.transactions(f"user-{number}")
        if booked["kind"] == "charge"
    ]
    assert len(found) == len(set(found))
    return found


def test_a_charge_that_the_standby_has_not_confirmed_is_not_acknowledged() -> None:
    """PostgreSQL reports such a commit as done when somebody cancels its wait for the standby.

    If the standby took over now, the charge would be gone: so it is 503, and so is a retry,
    until the standby is back.
    """
    with (
        postgres_server() as primary,
        running_standby(primary) as standby,
        credits_process(_url_of_both(primary, standby)) as process,
        CreditsClient(process.url) as client,
    ):
        client.top_up("ann", "5")
        standby.signal(signal.SIGSTOP)
        try:
            for _attempt in range(2):
                refused = _bill_while_cancelling(client, primary)
                assert refused.status_code == 503, refused.text
                assert refused.headers["retry-after"]
        finally:
            standby.signal(signal.SIGCONT)
        confirmed = client.bill("ann", "1", key="k")
        assert confirmed.status_code == 200
        primary.kill()
        standby.promote()
        assert client.bill("ann", "1", key="k").content == confirmed.content
        assert client.account("ann")["balance"] == "4"
        client.assert_sound()


def _bill_while_cancelling(client: CreditsClient, primary: PostgresServer) -> httpx.Response:
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(client.bill, "ann", "1", "k")

        def is_answered() -> bool:
            primary.sql(cancel)
            return answer.done()

        wait_until("the charge is answered", is_answered)
        return answer.result()


def test_a_server_that_became_read_only_is_left_for_the_one_that_is_not() -> None:
    """A primary may be demoted without its connections being cut."""
    with (
        postgres_server() as primary,
        running_standby(primary) as standby,
        credits_process(_url_of_both(primary, standby)) as process,
        CreditsClient(process.url) as client,
    ):
        client.top_up("ann", "5")
        primary.sql(
            "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
        )
        assert client.bill("ann", "1", key="k").status_code == 503
        standby.promote()
        answer = client.bill("ann", "1", key="k")
        assert answer.status_code == 200, answer.text
        assert client.account("ann")["balance"] == "4"
        assert standby.sql("SELECT balance_nanos FROM accounts") == str(4 * 10**9)
        client.assert_sound()
