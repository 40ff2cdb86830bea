"""When a key expires, when it was used and refused: by the clock, and off the asking path."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from credits.client import CreditsClient, app_of
from credits.drivers import START_MICROS, Clock
from credits.key_owner import KeyOwner
from credits_service.core.moments import MICROS_PER_SECOND, rfc3339
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.db.key_queries import KeyQueries
from credits_service.db.key_uses import REFUSALS_PER_HOUR, KeyUses
from credits_service.db.key_writes import Actor
from credits_service.db.queries import LedgerQueries
from support.live_server import live_server

_MINUTE_MICROS = 60 * MICROS_PER_SECOND
_HOUR_MICROS = 60 * _MINUTE_MICROS
_ASKER = Actor("tester", "req_1")


@pytest.fixture
def key_id(ledger_url: str) -> str:
    """A key on a ledger whose service has ended."""
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        return str(KeyOwner(client).make()["key_id"])


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[Database]:
    found = open_database(database_url(ledger_url), DatabaseLimits())
    yield found
    await found.close()


async def _last_used(database: Database, key_id: str) -> int | None:
    records, _now = await KeyQueries(LedgerQueries(database, Clock())).keys(limit=1, key_id=key_id)
    return records[0].key.last_used_at_micros


async def _refusals(database: Database, key_id: str) -> list[str]:
    queries = KeyQueries(LedgerQueries(database, Clock()))
    events = await queries.events(key_id, before=None, limit=500)
    assert events is not None
    assert [event.seq for event in events] == list(range(len(events), 0, -1))
    return [event.details for event in events if event.kind == "refused"]


def test_a_key_expires_at_its_moment(timed_service: CreditsClient, clock: Clock) -> None:
    owner = KeyOwner(timed_service)
    made = owner.make(expires_at=rfc3339(clock() + _HOUR_MICROS))
    clock.micros += _HOUR_MICROS - 4 * MICROS_PER_SECOND
    verdict = owner.verdict(made["key"])
    assert (verdict["cache_seconds"], verdict["expires_at"]) == (4, made["expires_at"])

    clock.micros += 4 * MICROS_PER_SECOND

    assert owner.reason(made["key"]) == "expired"
    path = f"/keys/{made['key_id']}"
    assert owner.done("GET", path)["status"] == "expired"
    assert owner.done("PATCH", path, {"expires_at": None})["status"] == "active"
    assert owner.reason(made["key"]) == "active"


def test_a_grace_ends_at_its_moment_also_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    with live_server(app_of(url, clock)) as base_url, CreditsClient(base_url) as client:
        owner = KeyOwner(client)
        made = owner.make()
        rotated = owner.rotate(made["key_id"], grace_seconds=60)
        assert rotated["grace_until"] == rfc3339(START_MICROS + _MINUTE_MICROS)
    clock.micros += _MINUTE_MICROS - 1
    with live_server(app_of(url, clock)) as base_url, CreditsClient(base_url) as client:
        owner.client = client
        assert [owner.reason(each["key"]) for each in (made, rotated)] == ["active", "active"]
        clock.micros += 1
        assert [owner.reason(each["key"]) for each in (made, rotated)] == ["rotated", "active"]


def test_what_was_asked_is_written_at_the_latest_when_the_service_ends(
    tmp_path: Path, clock: Clock
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    with live_server(app_of(url, clock)) as base_url, CreditsClient(base_url) as client:
        owner = KeyOwner(client)
        used, refused = owner.make(), owner.make()
        owner.done("PATCH", f"/keys/{refused['key_id']}", {"disabled": True})
        owner.verdict(used["key"])
        for _ in range(3):
            owner.verdict(refused["key"])
        # Somebody who knows no more than the prefix.
        assert owner.reason(used["key"].replace(used["key"][-9:-6], "000")) == "unknown"
    with live_server(app_of(url, clock)) as base_url, CreditsClient(base_url) as client:
        owner.client = client
        assert owner.done("GET", f"/keys/{used['key_id']}")["last_used_at"] == rfc3339(START_MICROS)
        assert owner.done("GET", f"/keys/{refused['key_id']}")["last_used_at"] is None
        event = owner.events(refused["key_id"])[0]
        assert (event["kind"], event["principal"]) == ("refused", "tester")
        assert event["details"] == {"reason": "disabled", "count": 3}
        assert event["request_id"].startswith("req_")
        client.assert_sound()


async def test_the_last_use_is_written_once_a_minute_by_all_services_together(
    key_id: str, database: Database
) -> None:
    services = [KeyUses(database), KeyUses(database)]
    found: list[int | None] = []
    for seconds in (0, 1, 59, 60, 61, 30):
        uses = services[seconds % 2]
        uses.used(key_id, START_MICROS + seconds * MICROS_PER_SECOND)
        await uses.flush()
        found.append(await _last_used(database, key_id))
    minute = START_MICROS + _MINUTE_MICROS
    assert found == [START_MICROS, START_MICROS, START_MICROS, minute, minute, minute]


async def test_refusals_are_bounded_for_each_key_and_hour(key_id: str, database: Database) -> None:
    uses, others = KeyUses(database), KeyUses(database)

    async def refuse(times: int, at_micros: int) -> int:
        for number in range(times):
            each = (uses, others)[number % 2]
            each.refused(key_id, "expired", _ASKER, at_micros + number)
            each.refused(key_id, "expired", _ASKER, at_micros + number)
            await each.flush()
        return len(await _refusals(database, key_id))

    assert await refuse(3, START_MICROS) == 3
    assert await refuse(REFUSALS_PER_HOUR + 5, START_MICROS + 9) == REFUSALS_PER_HOUR
    assert await refuse(1, START_MICROS + _HOUR_MICROS - 1) == REFUSALS_PER_HOUR
    assert await refuse(1, START_MICROS + _HOUR_MICROS) == REFUSALS_PER_HOUR + 1
    last, *others_told = await _refusals(database, key_id)
    assert set(others_told) == {'{"reason":"expired","count":2}'}
    # Of the nine pairs beyond the bound five were this process's: the next one tells of them.
    assert last == '{"reason":"expired","count":12}'


async def test_refusals_for_one_reason_hide_none_for_another(
    key_id: str, database: Database
) -> None:
    uses = KeyUses(database)
    for number in range(REFUSALS_PER_HOUR + 1):
        uses.refused(key_id, "rpm", _ASKER, START_MICROS + number)
        await uses.flush()
    uses.refused(key_id, "revoked", _ASKER, START_MICROS + 60, 7)
    await uses.flush()

    last, *before = await _refusals(database, key_id)

    assert last == '{"reason":"revoked","count":7}'
    assert before == ['{"reason":"rpm","count":1}'] * REFUSALS_PER_HOUR


async def test_refusals_of_what_is_no_key_are_written_nowhere_and_hinder_no_others(
    key_id: str, database: Database
) -> None:
    uses = KeyUses(database)
    for each in ("0" * 36, key_id, "f" * 36):
        uses.refused(each, "missing_scope", _ASKER, START_MICROS)

    await uses.flush()

    assert await _refusals(database, key_id) == ['{"reason":"missing_scope","count":1}']
