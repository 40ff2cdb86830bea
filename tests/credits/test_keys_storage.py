"""Issued keys in the database: raced for, migrated, moved, and never with their secrets."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from credits.client import ADMIN_KEY, CreditsClient, Json, app_of, bearer, credits_process
from credits.command import credits_command
from credits.drivers import Clock
from credits.key_owner import KeyOwner
from credits_service.api.key_body import render_key
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.db.key_writes import Actor, Call
from credits_service.db.keys import KeyStore
from credits_service.db.migrate import config_for, migrate, revisions
from credits_service.keys.secret import make_secret
from credits_service.keys.state import IssuedKey
from credits_service.ledger.idempotency import IdempotencyKey
from support.databases import postgres_database
from support.live_server import live_server

_AT_ONCE = 8
_ROUNDS = 3


@pytest.fixture
def base_urls(ledger_url: str) -> Iterator[list[str]]:
    """Two services on one PostgreSQL, or one on SQLite."""
    with live_server(app_of(ledger_url)) as first:
        if ledger_url.startswith("sqlite"):
            yield [first, first]
            return
        with live_server(app_of(ledger_url)) as second:
            yield [first, second]


def _all_at_once(
    base_urls: list[str], calls: list[tuple[str, str, Json, str]]
) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60, headers=bearer(ADMIN_KEY)) as client:
            return await asyncio.gather(
                *(
                    client.request(
                        method,
                        f"{base_urls[number % 2]}/api/v1{path}",
                        json=body,
                        headers={"Idempotency-Key": key},
                    )
                    for number, (method, path, body, key) in enumerate(calls)
                )
            )

    return asyncio.run(send())


def test_the_same_request_at_once_makes_one_key(base_urls: list[str]) -> None:
    with CreditsClient(base_urls[0]) as client:
        owner = KeyOwner(client)
        body = {"account": owner.account, "name": "app"}
        answers = _all_at_once(base_urls, [("POST", "/keys", body, "same")] * _AT_ONCE)
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] * (_AT_ONCE - 1) + [201]
        (key,) = [answer.json()["key"] for answer in answers if "key" in answer.json()]
        assert owner.reason(key) == "active"
        assert len(owner.keys()) == 1
        client.assert_sound()


def test_of_rotations_at_once_one_secret_is_left(base_urls: list[str]) -> None:
    with CreditsClient(base_urls[0]) as client:
        owner = KeyOwner(client)
        made = owner.make()
        path = f"/keys/{made['key_id']}/rotate"
        calls: list[tuple[str, str, Json, str]] = [
            ("POST", path, {}, f"r{number}") for number in range(_AT_ONCE)
        ]
        answers = _all_at_once(base_urls, calls)
        assert {answer.status_code for answer in answers} == {200}
        keys = [made["key"], *(answer.json()["key"] for answer in answers)]
        reasons = sorted(owner.reason(key) for key in keys)
        assert reasons == ["active"] + ["rotated"] * _AT_ONCE
        (current,) = owner.keys()
        assert owner.reason(next(k for k in keys if current["prefix"] in k)) == "active"
        kinds = [event["kind"] for event in owner.changes(made["key_id"])]
        assert kinds == ["rotated"] * _AT_ONCE + ["created"]
        numbers = [event["seq"] for event in owner.events(made["key_id"])]
        assert numbers == list(range(len(numbers), 0, -1))


def test_whatever_races_with_a_revocation_leaves_the_key_revoked(base_urls: list[str]) -> None:
    with CreditsClient(base_urls[0]) as client:
        owner = KeyOwner(client)
        for _ in range(_ROUNDS):
            made = owner.make()
            path = f"/keys/{made['key_id']}"
            calls: list[tuple[str, str, Json, str]] = [
                call
                for number in range(3)
                for call in (
                    ("POST", f"{path}/rotate", {"grace_seconds": 60}, f"{path}-r{number}"),
                    ("DELETE", path, {}, "-"),
                    ("PATCH", path, {"rpm": number + 1}, f"{path}-p{number}"),
                )
            ]
            answers = _all_at_once(base_urls, calls)
            assert {answer.status_code for answer in answers} <= {200, 409}
            keys = [made["key"], *(a.json()["key"] for a in answers if "key" in a.json())]
            assert {owner.reason(key) for key in keys} == {"revoked"}
            kinds = [event["kind"] for event in owner.changes(made["key_id"])]
            assert kinds[0] == "revoked", "nothing was changed afterwards"
            assert kinds.count("revoked") == 1


class _AnswerLost:
    """A database whose first commit is done, and whose answer to it never comes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_first = True
        self.is_sqlite = database.is_sqlite
        self.writer = database.writer

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        answer = await self._database.write(work)
        if self._is_first:
            self._is_first = False
            raise ConnectionResetError
        return answer


async def test_a_key_whose_commit_went_unanswered_is_made_once_and_shown(ledger_url: str) -> None:
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        owner = KeyOwner(client)
        database = open_database(database_url(ledger_url), DatabaseLimits())
        store = KeyStore(cast("Database", _AnswerLost(database)), Clock(), render=render_key)
        settings: dict[str, Any] = dict.fromkeys(IssuedKey.__struct_fields__[4:12])
        settings |= {"account": owner.account, "name": "app", "scopes": ("chat",)}
        settings["expires_at_micros"] = None
        secret = make_secret()
        call = Call(Actor("admin", "req_1"), "request", IdempotencyKey("admin", "lost"))
        try:
            done = await store.create(settings, secret, call)
            again = await store.create(settings, make_secret(), call)
        finally:
            await database.close()
        assert (done.replayed, again.replayed) == (False, True)
        assert done.body == again.body
        assert len(owner.keys()) == 1
        assert owner.reason(secret.text) == "active"
        client.assert_sound()


async def test_a_ledger_of_the_version_before_is_taken_over(ledger_url: str) -> None:
    database = open_database(database_url(ledger_url), DatabaseLimits())

    def make_old(connection: Connection) -> None:
        command.upgrade(config_for(connection), "0002")

    try:
        async with database.writer.begin() as connection:
            await connection.run_sync(make_old)
        await migrate(database.writer)
        async with database.reader.connect() as connection:
            current, head = await connection.run_sync(revisions)
        assert current == head
    finally:
        await database.close()
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        owner = KeyOwner(client)
        assert owner.reason(owner.make()["key"]) == "active"
        client.assert_sound()


async def test_what_happened_cannot_be_changed(ledger_url: str) -> None:
    with live_server(app_of(ledger_url)) as base_url, CreditsClient(base_url) as client:
        KeyOwner(client).make()
    database = open_database(database_url(ledger_url), DatabaseLimits())
    statements = ["UPDATE key_events SET principal = 'me'", "DELETE FROM key_events"]
    if not database.is_sqlite:
        statements.append("TRUNCATE key_events")
    try:
        for statement in statements:
            with pytest.raises(DBAPIError, match="append-only"):
                async with database.writer.begin() as connection:
                    await connection.execute(text(statement))
    finally:
        await database.close()


def test_no_secret_is_stored_logged_or_exported(tmp_path: Path) -> None:
    """Neither the key nor what follows its prefix, whatever is asked in its name."""
    file = tmp_path / "ledger.sqlite3"
    with (
        credits_process(f"sqlite:///{file}", LOG_LEVEL="DEBUG") as process,
        CreditsClient(process.url) as client,
    ):
        # A key where an id belongs is in the path, and so in the access line, behind the mask.
        process.tests_the_mask = True
        owner = KeyOwner(client)
        made = owner.make(metadata={"a": 1})
        rotated = owner.rotate(made["key_id"], 60)
        keys = [made["key"], rotated["key"]]
        for key in keys:
            assert owner.reason(key) == "active"
            owner.client.call("POST", "/keys/verify", {"key": key, "other": 1})
            owner.client.call("POST", "/keys/verify", {"key": [key]})
            owner.call("DELETE", f"/keys/{key}")
            owner.client.call("GET", "/accounts", api_key=key)
        shown = client.http.get("/metrics", headers={"Accept": "text/plain"}).text
        assert 'credits_keys_verified_total{outcome="active"} 2' in shown
        documents = [owner.keys(), owner.events(made["key_id"])]
    exported = credits_command(tmp_path, ["export", "--keys"], DATABASE_URL=f"sqlite:///{file}")
    assert exported.code == 0, exported.stderr
    with sqlite3.connect(file) as connection:
        digests = [row[0].hex() for row in connection.execute("SELECT digest FROM key_secrets")]
    connection.close()
    stored = b"".join(each.read_bytes() for each in tmp_path.iterdir()).decode("latin-1")
    said = "\n".join(process.lines) + shown + repr(documents) + exported.stdout
    assert made["prefix"] in exported.stdout
    for key in keys:
        secret = key.rpartition("-")[2]
        assert secret not in stored + said
    for digest in digests:
        assert digest not in said


def test_keys_move_to_postgresql_and_work_there(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    with credits_process(f"sqlite:///{file}") as process, CreditsClient(process.url) as client:
        owner = KeyOwner(client)
        made = owner.make(allowed_models=["gemini-*"], metadata={"ä": [1]})
        rotated = owner.rotate(made["key_id"], 3600)
        before = owner.keys(), owner.events(made["key_id"])
    with postgres_database() as url:
        target = url.replace("+asyncpg", "")
        moved = credits_command(
            tmp_path,
            ["migrate-to", "--yes", "--json"],
            DATABASE_URL=f"sqlite:///{file}",
            TARGET_DATABASE_URL=target,
        )
        assert moved.code == 0, moved.stderr
        rows = moved.document()["rows"]
        assert (rows["issued_keys"], rows["key_secrets"], rows["key_events"]) == (1, 2, 2)
        with credits_process(target) as process, CreditsClient(process.url) as client:
            owner.client = client
            assert (owner.keys(), owner.events(made["key_id"])) == before
            for key in (made["key"], rotated["key"]):
                assert owner.reason(key) == "active"
            client.assert_sound()
