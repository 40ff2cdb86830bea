"""An account that somebody else keeps locked: its commands are refused, its neighbours go on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from credits_service.api.render import render
from credits_service.core.errors import AccountsLockedError, LedgerUnavailableError
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.audit import audit
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.db.load import Loader
from credits_service.db.locked_accounts import LockedAccounts
from credits_service.db.migrate import migrate
from credits_service.db.store import LedgerStore
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import AmendHold, Charge, Operation, PlaceHold, TopUp
from credits_service.ledger.writer import Writer
from support.databases import postgres_database, require_postgres

LOCK_SECONDS = 0.2
LOCK = "SELECT * FROM accounts WHERE user_id = $1 FOR UPDATE"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """SQLite locks no rows."""
    require_postgres()
    with postgres_database() as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = open_database(database_url(url), DatabaseLimits(lock_seconds=LOCK_SECONDS))
    await migrate(database.writer)
    yield database
    async with database.reader.connect() as connection:
        assert (await audit(connection)).violations == []
    await database.close()


@pytest.fixture
async def operator(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


def _command(operation: Operation, key: str | None = None) -> Command:
    return Command(
        operation, "tester", "req", None if key is None else IdempotencyKey("tester", key)
    )


def _kind(outcome: Result | Exception) -> int:
    if isinstance(outcome, LedgerUnavailableError):
        return outcome.status
    assert isinstance(outcome, Result)
    return outcome.status


async def test_neighbours_of_a_locked_account_go_on(
    database: Database, operator: asyncpg.Connection
) -> None:
    store = LedgerStore(database, render=render, clock=None)
    writer = Writer(store, LedgerMetrics(CollectorRegistry()))
    writer.start()
    users = ["ann", "bob", "cid"]
    await writer.submit_many([_command(TopUp(user, 100)) for user in users])
    hold = await writer.submit(_command(PlaceHold("bob", 10, ttl_micros=10**9)))
    hold_id = hold.body.split(b'"hold_id":"')[1][:36].decode()
    group = [
        _command(Charge("ann", 1), "a1"),
        _command(Charge("bob", 1), "b1"),
        _command(AmendHold(hold_id, amount_nanos=20)),
        _command(Charge("cid", 1), "c1"),
        _command(TopUp("dora", 5), "d1"),
    ]

    lock = operator.transaction()
    await lock.start()
    await operator.execute(LOCK, "bob")
    outcomes = await writer.submit_many(group)
    assert [_kind(outcome) for outcome in outcomes] == [200, 503, 503, 200, 201]
    # Known now: nobody waits for it any more, and a batch without it does not notice.
    outcomes = await writer.submit_many([_command(Charge(user, 1)) for user in users])
    assert [_kind(outcome) for outcome in outcomes] == [200, 503, 200]
    assert _kind(await writer.submit(_command(Charge("cid", 1)))) == 200
    await lock.rollback()

    after = await writer.submit_many([_command(Charge("bob", 80), "b2"), *group])
    # Nothing had been booked for those that were refused: they are no replays.
    assert [_kind(outcome) for outcome in after] == [200, 200, 200, 402, 200, 201]
    replayed = [outcome.replayed for outcome in after if isinstance(outcome, Result)]
    assert replayed == [False, True, False, False, True, True]
    await writer.close()


@asynccontextmanager
async def _in_use(url: str, user_id: str) -> AsyncIterator[None]:
    """Have other sessions lock an account one after the other, so that it is hardly ever free."""
    stopped = asyncio.Event()

    async def use(session: asyncpg.Connection) -> None:
        while not stopped.is_set():
            async with session.transaction():
                await session.execute(LOCK, user_id)

    async with AsyncExitStack() as stack:
        sessions = [await asyncpg.connect(url.replace("+asyncpg", "")) for _ in range(3)]
        for session in sessions:
            stack.push_async_callback(session.close)
        async with asyncio.TaskGroup() as tasks:
            for session in sessions:
                tasks.create_task(use(session))
            try:
                yield
            finally:
                stopped.set()


async def test_an_account_in_use_is_answered_while_another_is_stuck(
    url: str, operator: asyncpg.Connection
) -> None:
    # Time enough to wait for one's turn, however busy the machine.
    database = open_database(database_url(url), DatabaseLimits(lock_seconds=1.5))
    await migrate(database.writer)
    writer = Writer(
        LedgerStore(database, render=render, clock=None), LedgerMetrics(CollectorRegistry())
    )
    writer.start()
    await writer.submit_many([_command(TopUp(user, 1000)) for user in ("hot", "stuck")])
    group = [_command(Charge("hot", 1)), _command(Charge("stuck", 1))]

    lock = operator.transaction()
    await lock.start()
    await operator.execute(LOCK, "stuck")
    async with _in_use(url, "hot"):
        for _ in range(30):
            outcomes = await writer.submit_many(group)
            assert [_kind(outcome) for outcome in outcomes] == [200, 503]
        async with _in_use(url, "stuck"):
            await lock.rollback()
            outcomes = await writer.submit_many(group)
            assert [_kind(outcome) for outcome in outcomes] == [200, 200]
    await writer.close()
    await database.close()


async def _positions(locked: LockedAccounts, *users: str, waited: bool) -> set[int]:
    commands = [_command(Charge(user, 1)) for user in users]
    try:
        await (locked.refuse_stuck(commands) if waited else locked.refuse_known(commands))
    except AccountsLockedError as error:
        return set(error.positions)
    return set()


async def test_who_is_stuck_is_known_until_another_transaction_has_the_account(
    url: str, database: Database, operator: asyncpg.Connection
) -> None:
    store = LedgerStore(database, render=render, clock=None)
    await store.execute([_command(TopUp(user, 100)) for user in ("eve", "fay", "gus")])
    locked = LockedAccounts(database, Loader("postgresql", None))
    second = await asyncpg.connect(url.replace("+asyncpg", ""))

    first_lock, second_lock = operator.transaction(), second.transaction()
    await first_lock.start()
    await operator.execute(LOCK, "eve")
    assert await _positions(locked, "eve", "fay", waited=True) == {0}
    await second_lock.start()
    await second.execute(LOCK, "fay")
    assert await _positions(locked, "gus", "fay", waited=True) == {1}
    # What was found later has not made it forget the first.
    assert await _positions(locked, "eve", "fay", "gus", waited=False) == {0, 1}

    await first_lock.rollback()
    await second.execute(LOCK, "eve")
    # It is locked still, but not by whoever kept it.
    assert await _positions(locked, "eve", "fay", waited=False) == {1}
    assert await _positions(locked, "eve", "fay", waited=True) == {0, 1}
    await second_lock.rollback()
    assert await _positions(locked, "eve", "fay", waited=False) == set()
    await second.close()
