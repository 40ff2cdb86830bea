"""How many statements a batch takes: as many for fifty charges as for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from credits.drivers import WriterDriver
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge, TopUp


@contextmanager
def _statements() -> Iterator[list[str]]:
    """Note what SQLAlchemy sends to a database; many rows of one statement are one."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def driver(ledger_url: str) -> Iterator[WriterDriver]:
    driver = WriterDriver(ledger_url)
    yield driver
    driver.close()


def _charges(count: int, name: str) -> list[Command]:
    return [
        Command(
            Charge("ann", 1, "one of many"),
            "tester",
            f"req_{name}_{number}",
            IdempotencyKey("tester", f"{name}-{number}"),
        )
        for number in range(count)
    ]


def test_fifty_charges_take_as_many_statements_as_one(driver: WriterDriver) -> None:
    """They share one transaction, one look at the account, and one statement for each table."""
    driver.run([Command(TopUp("ann", 1_000_000), "tester", "req_topup", None)])
    driver.run(_charges(2, "warm"))
    counts: list[int] = []
    for size in (1, 50):
        with _statements() as seen:
            results = driver.run(_charges(size, f"batch-of-{size}"))
        assert [result.status for result in results] == [200] * size
        counts.append(len(seen))
    assert counts[0] == counts[1] > 0
    assert driver.violations() == []
