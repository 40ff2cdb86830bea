"""A database that is gone, silent, full, read only or has no room: 503, then on without a restart.

Nothing is half done by it: the ledger is sound, and a retried key tells what became of a request.
"""

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from credits.client import CreditsClient, assert_problem, credits_process
from support.postgres_cluster import (
    HOST,
    SUPERUSER,
    PostgresServer,
    Session,
    postgres_server,
    wait_until,
)
from support.processes import ServiceProcess
from support.slow_proxy import slow_proxy

QUICK = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": "0.5",
    "DATABASE_LOCK_TIMEOUT_SECONDS": "0.3",
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": "0.5",
    "DATABASE_POOL_SIZE": "2",
}


class Bench:
    """A service, its client, and what every fault must look like from outside."""

    def __init__(self, process: ServiceProcess, client: CreditsClient) -> None:
        self.process = process
        self.client = client
        client.top_up("ann", "100")
        self.bill("before", 200)

    def bill(self, key: str, status: int) -> httpx.Response:
        answer = self.client.bill("ann", "1", key=key)
        assert answer.status_code == status, answer.text
        return answer

    def assert_unavailable(self, key: str = "during") -> None:
        """Charges are 503 and say when to come again; the process itself lives."""
        answer = self.client.bill("ann", "1", key=key)
        assert_problem(answer, 503, "ledger_unavailable")
        assert answer.headers["retry-after"]
        assert self.client.http.get("/health").status_code == 200

    def assert_not_ready(self) -> None:
        """Who balances the load is told, and reading is 503 as well."""
        assert_problem(self.client.http.get("/ready"), 503, "ledger_unavailable")
        answer = self.client.call("GET", "/accounts/ann")
        assert_problem(answer, 503, "ledger_unavailable")
        assert answer.headers["retry-after"]

    def assert_recovered(self) -> None:
        """It serves again by itself; each key was booked once, whatever its first answer was."""
        wait_until("the service is ready", self._is_ready)
        wait_until("it writes", lambda: self.client.bill("ann", "1", "during").is_success)
        wait_until("it reads", lambda: self.client.call("GET", "/accounts/ann").is_success)
        self.bill("after", 200)
        self.bill("before", 200)
        # A connection for reading that broke meanwhile is noticed when it is used.
        wait_until("the balance is told", lambda: self._balance() == "97")
        self.client.assert_sound()
        levels = {event["level"] for event in self.process.events() if "level" in event}
        assert "error" not in levels, "an expected fault was taken for a mistake of ours"

    def _balance(self) -> str | None:
        answer = self.client.call("GET", "/accounts/ann")
        balance: str | None = answer.json().get("balance")
        return balance

    def _is_ready(self) -> bool:
        return self.client.http.get("/ready").is_success


@contextmanager
def bench(url: str, **settings: str) -> Iterator[Bench]:
    with (
        credits_process(url, **{**QUICK, **settings}) as process,
        CreditsClient(process.url) as client,
    ):
        yield Bench(process, client)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[PostgresServer]:
    with postgres_server(max_connections="20") as server:
        yield server


@pytest.fixture
def server(shared_server: PostgresServer) -> PostgresServer:
    """A server with an empty database."""
    name = "ledger"
    shared_server.sql(
        f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
        f"CREATE DATABASE {name}",
        database="postgres",
    )
    return shared_server


def test_a_killed_database_is_503_until_it_is_back(server: PostgresServer) -> None:
    with bench(server.url) as service:
        server.kill()
        service.assert_unavailable()
        service.assert_not_ready()
        server.start()
        service.assert_recovered()


def test_a_silent_database_is_503_in_bounded_time(server: PostgresServer) -> None:
    """Connections stay open and new ones are taken, but nothing ever comes back."""
    with slow_proxy(server.port) as proxy:
        url = f"postgresql://{SUPERUSER}@{HOST}:{proxy.port}/ledger"
        with bench(url) as service:
            proxy.swallow()
            service.assert_unavailable()
            service.assert_not_ready()
            proxy.pass_on()
            service.assert_recovered()


def test_a_database_too_slow_for_the_limits_is_503(server: PostgresServer) -> None:
    with slow_proxy(server.port) as proxy:
        url = f"postgresql://{SUPERUSER}@{HOST}:{proxy.port}/ledger"
        with bench(url) as service:
            proxy.delay_seconds = 3.0
            service.assert_unavailable()
            proxy.delay_seconds = 0.0
            service.assert_recovered()


def test_a_table_locked_by_somebody_is_503(server: PostgresServer) -> None:
    with bench(server.url) as service:
        with server.session() as session:
            assert session.ask("BEGIN; LOCK TABLE accounts; SELECT 'locked';") == "locked"
            service.assert_unavailable()
        service.assert_recovered()


def take_every_connection(server: PostgresServer, others: ExitStack) -> Session:
    """Connect until the server refuses; return the first of these sessions."""
    first = session = others.enter_context(server.session("postgres"))
    while session.ask("SELECT 1;") == "1":
        session = others.enter_context(server.session("postgres"))
    return first


def test_a_database_without_free_connections_is_503(server: PostgresServer) -> None:
    with bench(server.url) as service, ExitStack() as others:
        session = take_every_connection(server, others)
        session.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = 'ledger';"
        )
        take_every_connection(server, others)
        service.assert_unavailable()
        service.assert_not_ready()
        others.close()
        service.assert_recovered()


def test_a_read_only_database_is_503_for_charges_and_still_read(server: PostgresServer) -> None:
    with bench(server.url) as service:
        server.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        service.assert_unavailable()
        assert service.client.account("ann")["balance"] == "99"
        server.sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
        service.assert_recovered()


def test_a_changed_table_is_noticed_by_prepared_statements(server: PostgresServer) -> None:
    """As when a newer version migrates the ledger under a running one."""
    with bench(server.url) as service:
        service.client.account("ann")
        server.sql("ALTER TABLE accounts ALTER COLUMN user_id TYPE varchar(200)")
        service.bill("during", 200)
        service.assert_recovered()


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own that can be filled up."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    folder = Path(f"/tmp/ledger-disk-{os.getpid()}")  # noqa: S108 - entered by another user
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    try:
        if mounted.returncode != 0:
            # As in a container without privileges: not even CI's root may do it there.
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
        yield folder
    finally:
        if mounted.returncode == 0:
            subprocess.run(["/bin/umount", "-l", str(folder)], check=True)
        folder.rmdir()


def test_a_full_disk_under_postgresql_is_503_until_there_is_room() -> None:
    with (
        small_disk(128) as disk,
        postgres_server(disk, max_wal_size="64MB") as server,
        bench(server.url) as service,
    ):
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(65536))
        answers = _bill_until_refused(service)
        filler.unlink()
        # Without room for its log PostgreSQL ends itself, and waits for its operator.
        server.stop()
        server.start()
        _assert_each_booked_once(service, answers)


def _bill_until_refused(service: Bench) -> list[httpx.Response]:
    """Charge until the disk has no room; descriptions make the charges large."""
    answers = []
    for number in range(20_000):
        answers.append(_large_bill(service, number))
        if answers[-1].status_code != 200:
            assert_problem(answers[-1], 503, "ledger_unavailable")
            assert answers[-1].headers["retry-after"]
            return answers
    raise AssertionError("the disk did not fill up")


def _large_bill(service: Bench, number: int) -> httpx.Response:
    metadata = {"text": f"{number:08}" * 1000}
    return service.client.bill("ann", "0.001", f"large-{number}", metadata=metadata)


def _assert_each_booked_once(service: Bench, answers: list[httpx.Response]) -> None:
    """What was acknowledged stands, and what was refused is decided by its key."""
    wait_until("it writes", lambda: _large_bill(service, len(answers) - 1).is_success)
    for number, answer in enumerate(answers):
        again = _large_bill(service, number)
        assert again.status_code == 200, again.text
        if answer.status_code == 200:
            assert again.content == answer.content
    charges = [b for b in service.client.transactions("ann") if b["kind"] == "charge"]
    assert len(charges) == len(answers) + 1
    service.client.assert_sound()


def test_a_full_disk_under_sqlite_is_503_until_there_is_room() -> None:
    with small_disk(4) as disk, bench(f"sqlite:///{disk}/ledger.sqlite3") as service:
        answers = _bill_until_refused(service)
        subprocess.run(
            ["/bin/mount", "-o", "remount,size=64m", str(disk)], check=True, capture_output=True
        )
        _assert_each_booked_once(service, answers)


def test_a_limit_on_the_size_of_files_is_503_until_it_is_lifted(tmp_path: Path) -> None:
    """As a full disk, without a disk of its own."""
    with bench(f"sqlite:///{tmp_path}/ledger.sqlite3") as service:
        process_id = service.process.process.pid
        unlimited = resource.prlimit(process_id, resource.RLIMIT_FSIZE)
        resource.prlimit(process_id, resource.RLIMIT_FSIZE, (1_000_000, unlimited[1]))
        answers = _bill_until_refused(service)
        resource.prlimit(process_id, resource.RLIMIT_FSIZE, unlimited)
        _assert_each_booked_once(service, answers)


def test_a_locked_sqlite_ledger_is_503(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    with bench(f"sqlite:///{file}") as service:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            service.assert_unavailable()
            assert service.client.account("ann")["balance"] == "99"
        service.assert_recovered()


def test_an_sqlite_ledger_on_a_read_only_disk_is_refused_at_start() -> None:
    with small_disk(16) as disk:
        url = f"sqlite:///{disk}/ledger.sqlite3"
        with credits_process(url) as process, CreditsClient(process.url) as client:
            client.top_up("ann", "1")
        subprocess.run(["/bin/mount", "-o", "remount,ro", str(disk)], check=True)
        process = credits_process(url)
        assert process.wait() != 0
        assert "Read-only file system" in process.lines[-1]
