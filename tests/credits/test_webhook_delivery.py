"""Events on their way, on both databases: once in the normal case, never lost, in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select

from credits.drivers import Clock
from credits.webhook_receiver import SECRET, Receiver, receiving
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate
from credits_service.db.tables import webhook_events
from credits_service.db.webhook_outbox import Mark, WebhookOutbox, without_gaps
from credits_service.db.webhook_queries import Candidate
from credits_service.webhooks.delivery import LEASE_SECONDS, PRUNED_MAX, Deliverer
from credits_service.webhooks.retries import ATTEMPTS_MAX
from credits_service.webhooks.sender import Sender
from credits_service.webhooks.target import webhook_target

MICROS = 1_000_000
DAY_MICROS = 86_400 * MICROS


class Events:
    """The table of events, and deliverers that share it."""

    def __init__(self, database: Database, clock: Clock, receiver: Receiver) -> None:
        self.database = database
        self.clock = clock
        self.receiver = receiver
        self.metrics = LedgerMetrics(CollectorRegistry())
        self.outbox = WebhookOutbox(database, clock)
        self.open: list[Deliverer] = []

    def deliverer(self, **options: float) -> Deliverer:
        target = webhook_target(self.receiver.url, SECRET, allow_private=True)
        assert target is not None
        made = Deliverer(self.outbox, Sender(target), self.metrics, **options)
        self.open.append(made)
        return made

    async def write(self, *events: tuple[str, str], delivered_at: int | None = None) -> None:
        start = self.clock()
        async with self.database.writer.begin() as connection:
            for place, (event_id, user_id) in enumerate(events):
                await connection.execute(
                    insert(webhook_events).values(
                        id=event_id,
                        kind="balance.low",
                        user_id=user_id,
                        payload="{}",
                        created_at_micros=start + place,
                        delivered_at_micros=delivered_at,
                    )
                )

    async def rows(self) -> dict[str, tuple[int, bool, bool]]:
        """Return of each event: attempts, whether delivered, whether given up."""
        async with self.database.reader.connect() as connection:
            found = await connection.execute(select(webhook_events))
            return {
                row.id: (
                    row.attempts,
                    row.delivered_at_micros is not None,
                    row.failed_at_micros is not None,
                )
                for row in found
            }


@asynccontextmanager
async def events_on(url: str) -> AsyncIterator[Events]:
    database = open_database(database_url(url), DatabaseLimits())
    await migrate(database.writer)
    async with receiving() as receiver:
        events = Events(database, Clock(), receiver)
        try:
            yield events
        finally:
            for deliverer in events.open:
                await deliverer.close()
            await database.close()


@pytest.fixture
async def events(ledger_url: str) -> AsyncIterator[Events]:
    async with events_on(ledger_url) as found:
        yield found


async def test_an_account_s_events_come_once_and_in_order_of_creation(events: Events) -> None:
    # Against the order of their ids: a hold's is older than its end.
    await events.write(*((f"{9 - number}", "ann") for number in range(5)), ("x", "bob"))
    deliverer = events.deliverer()

    while await deliverer.deliver_due():
        pass

    assert [each for each in events.receiver.ids if each != "x"] == list("98765")
    assert sorted(events.receiver.ids) == sorted("98765x")
    assert set((await events.rows()).values()) == {(1, True, False)}


async def test_a_receiver_that_fails_is_asked_again_later_under_the_same_id(
    events: Events,
) -> None:
    events.receiver.answer = lambda number: 500 if number < 4 else 204
    await events.write(("a", "ann"))
    deliverer = events.deliverer()

    assert await deliverer.deliver_due() == 1
    assert await deliverer.deliver_due() == 0
    for _ in range(3):
        events.clock.micros += DAY_MICROS
        assert await deliverer.deliver_due() == 1
    events.clock.micros += DAY_MICROS
    assert await deliverer.deliver_due() == 0

    assert events.receiver.ids == ["a"] * 4
    assert len({each.body for each in events.receiver.received}) == 1
    assert await events.rows() == {"a": (4, True, False)}


async def test_an_event_that_fails_does_not_hold_up_the_next_for_days(events: Events) -> None:
    events.receiver.answer = lambda number: 500 if number == 1 else 204
    await events.write(("a", "ann"), ("b", "ann"))

    await events.deliverer().deliver_due()

    assert events.receiver.ids == ["a", "b"]
    assert await events.rows() == {"a": (1, False, False), "b": (1, True, False)}


@pytest.mark.parametrize(("status", "attempts"), [(410, 1), (500, ATTEMPTS_MAX)])
async def test_it_is_given_up_at_the_end(events: Events, status: int, attempts: int) -> None:
    events.receiver.answer = lambda _number: status
    await events.write(("a", "ann"))
    deliverer = events.deliverer()

    for _ in range(attempts + 3):
        await deliverer.deliver_due()
        events.clock.micros += DAY_MICROS

    assert events.receiver.ids == ["a"] * attempts
    assert await events.rows() == {"a": (attempts, False, True)}
    assert events.metrics.webhooks_failed._value.get() == 1


async def test_who_dies_between_sending_and_marking_leaves_it_to_be_sent_again(
    events: Events,
) -> None:
    await events.write(("a", "ann"), ("b", "ann"), ("c", "bob"))
    (first, *_) = await events.outbox.claim(limit=1, lease_micros=int(LEASE_SECONDS) * MICROS)
    deliverer = events.deliverer()

    # Nobody overtakes it, and nobody else's events wait for it.
    await deliverer.deliver_due()
    assert events.receiver.ids == ["c"]
    events.clock.micros += int(LEASE_SECONDS) * MICROS
    await deliverer.deliver_due()

    assert first.id == "a"
    assert events.receiver.ids == ["c", "a", "b"]


async def test_an_account_with_many_events_does_not_hold_up_another_s(events: Events) -> None:
    names = [f"{number:03}" for number in range(600)]
    await events.write(*((name, "ann") for name in names), ("x", "bob"), ("y", "bob"), ("z", "cid"))

    taken = [event.id for event in await events.outbox.claim(limit=20, lease_micros=MICROS)]

    own = len(taken) - 3
    assert own > 0
    assert taken == [*names[:own], "x", "y", "z"]


async def test_another_process_takes_what_is_not_of_an_account_under_way(events: Events) -> None:
    names = [(f"{number:03}", "ann") for number in range(600)]
    await events.write(*names, ("x", "bob"), ("y", "bob"))
    other = WebhookOutbox(events.database, events.clock)

    first = await events.outbox.claim(limit=1, lease_micros=MICROS)
    second = await other.claim(limit=20, lease_micros=MICROS)

    assert [event.id for event in first] == ["000"]
    assert [event.id for event in second] == ["x", "y"]
    assert await other.claim(limit=20, lease_micros=MICROS) == []


async def test_accounts_take_turns(events: Events) -> None:
    await events.write(*((f"{number}{user}", user) for number in range(3) for user in "abcde"))

    turns: list[list[str]] = []
    for _ in range(8):
        turns.append([event.id for event in await events.outbox.claim(limit=2, lease_micros=1)])
        await events.outbox.mark(Mark(each, "delivered") for each in turns[-1])

    assert turns[:4] == [["0a", "0b"], ["0c", "0d"], ["0e", "1a"], ["1b", "1c"]]
    taken = [each for turn in turns for each in turn]
    assert sorted(taken) == [f"{number}{user}" for number in range(3) for user in "abcde"]


def test_nothing_is_kept_after_an_event_that_another_process_has() -> None:
    chosen = [Candidate(each, "ann" if each in "ab" else "bob") for each in "abcd"]

    assert without_gaps(chosen, {"b", "c", "d"}) == ["c", "d"]
    assert without_gaps(chosen, set("abcd")) == list("abcd")


async def test_several_workers_share_the_table_and_deliver_each_event_once(
    ledger_url: str,
) -> None:
    async with events_on(ledger_url) as events:
        names = [(f"{number:03}", f"user{number % 7}") for number in range(140)]
        await events.write(*names)
        others = [open_database(database_url(ledger_url), DatabaseLimits()) for _ in range(2)]
        # SQLite has one process, and so one database object.
        if events.database.is_sqlite:
            shared = [events.outbox] * 3
        else:
            shared = [events.outbox, *(WebhookOutbox(each, events.clock) for each in others)]
        for outbox in shared:
            events.outbox = outbox
            events.deliverer(poll_seconds=0.01).start()
        await events.receiver.has_received(len(names))
        for deliverer in events.open:
            await deliverer.close()
        events.open.clear()
        for other in others:
            await other.close()

        assert sorted(events.receiver.ids) == [name for name, _user in names]
        owners = dict(names)
        for user in set(owners.values()):
            own = [event_id for event_id in events.receiver.ids if owners[event_id] == user]
            assert own == sorted(own)
        assert set((await events.rows()).values()) == {(1, True, False)}


async def test_a_stop_waits_a_moment_for_what_is_under_way_and_gives_back_the_rest(
    events: Events,
) -> None:
    released = asyncio.Event()
    serve = events.receiver.serve

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await released.wait()
        await serve(reader, writer)

    arrived = asyncio.Event()
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    events.receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await events.write(("a", "ann"), ("b", "ann"))
    deliverer = events.deliverer(close_seconds=0)
    deliverer.start()
    await arrived.wait()
    await deliverer.close()
    events.open.clear()

    # Nobody knows what became of the first: both are due again at once.
    assert await events.rows() == {"a": (0, False, False), "b": (0, False, False)}
    released.set()
    again = events.deliverer()
    await again.deliver_due()
    assert [each for each in events.receiver.ids if each == "b"] == ["b"]
    server.close()
    await server.wait_closed()


async def test_new_events_wake_the_deliverer(events: Events) -> None:
    deliverer = events.deliverer(poll_seconds=3600)
    deliverer.start()
    await events.write(("a", "ann"))
    deliverer.wake()

    assert [each.id for each in await events.receiver.has_received(1)] == ["a"]


async def test_what_ended_a_week_ago_is_forgotten_a_little_at_a_time(events: Events) -> None:
    long_ago = events.clock() - 8 * DAY_MICROS
    await events.write(*((f"{number:04}", "ann") for number in range(12)), delivered_at=long_ago)
    await events.write(("kept", "ann"), delivered_at=events.clock() - 6 * DAY_MICROS)
    await events.write(("waiting", "ann"))

    assert await events.outbox.prune(age_micros=7 * DAY_MICROS, limit=10) == 10
    assert await events.outbox.prune(age_micros=7 * DAY_MICROS, limit=PRUNED_MAX) == 2
    assert await events.outbox.prune(age_micros=7 * DAY_MICROS, limit=PRUNED_MAX) == 0

    assert set(await events.rows()) == {"kept", "waiting"}
    assert await events.outbox.waiting() == 1
