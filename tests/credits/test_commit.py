"""A commit whose answer is lost: the charge is booked once, and its client is told so."""

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Connection

from credits.drivers import WriterDriver
from credits_service.db.load import Loader
from credits_service.ledger.batch import Command, Loaded
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge, TopUp


@pytest.fixture
def driver(ledger_url: str) -> Iterator[WriterDriver]:
    driver = WriterDriver(ledger_url)
    driver.run([Command(TopUp("ann", 100), "admin", "req", IdempotencyKey("admin", "t"))])
    yield driver
    assert driver.violations() == []
    driver.close()


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("key", [None, IdempotencyKey("tester", "k")])
def test_the_charge_is_booked_once(
    driver: WriterDriver,
    monkeypatch: pytest.MonkeyPatch,
    *,
    committed: bool,
    key: IdempotencyKey | None,
) -> None:
    """With a key or without: the writer finds out by itself whether it was booked."""
    commit = Connection.commit
    failures = iter([True])

    def commit_and_lose_the_answer(connection: Connection) -> None:
        fails = next(failures, False)
        if committed or not fails:
            commit(connection)
        if fails:
            raise ConnectionResetError

    monkeypatch.setattr(Connection, "commit", commit_and_lose_the_answer)
    (result,) = driver.run([Command(Charge("ann", 30), "tester", "req", key)])
    assert result.status == 200
    (refused, paid) = driver.run(
        [Command(Charge("ann", amount), "tester", "req") for amount in (71, 70)]
    )
    assert (refused.status, paid.status) == (402, 200)


def test_a_failure_nobody_foresaw_after_a_lost_answer_books_nothing_again(
    driver: WriterDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the database can tell what became of the commit: it is asked until it answers."""
    commit, load = Connection.commit, Loader.load
    commits, loads = iter([True]), iter([False, True, True])

    def commit_and_lose_the_answer(connection: Connection) -> None:
        commit(connection)
        if next(commits, False):
            raise ConnectionResetError

    def load_or_fail(self: Loader, connection: Connection, commands: Sequence[Command]) -> Loaded:
        if next(loads, False):
            raise RuntimeError("no such state was ever seen")
        return load(self, connection, commands)

    monkeypatch.setattr(Connection, "commit", commit_and_lose_the_answer)
    monkeypatch.setattr(Loader, "load", load_or_fail)
    results = driver.run([Command(Charge("ann", 10), "tester", "req") for _ in range(3)])

    assert [result.status for result in results] == [200, 200, 200]
    (refused, paid) = driver.run(
        [Command(Charge("ann", amount), "tester", "req") for amount in (71, 70)]
    )
    assert (refused.status, paid.status) == (402, 200)
