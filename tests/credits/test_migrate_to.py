"""`credits migrate-to`: an embedded ledger moves to PostgreSQL whole, or not at all."""

import asyncio
import hashlib
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from credits.client import CreditsClient, credits_process
from credits.command import COMMAND, Ended, credits_command, environment, fill
from credits_service.db.tables import metadata
from support.databases import postgres_database
from support.gate import gate

CHARGES = 3000
# The schema is made, some tables are copied, most of the transactions are not.
_BYTES_SENT = 500_000
_WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded ledger that no test may change."""
    file = tmp_path_factory.mktemp("filled") / "ledger.sqlite3"
    fill(f"sqlite:///{file}", CHARGES)
    return file


@pytest.fixture
def source(filled: Path, tmp_path: Path) -> Path:
    """A copy of it, in the folder where commands run."""
    file = tmp_path / "ledger.sqlite3"
    file.write_bytes(filled.read_bytes())
    return file


@pytest.fixture
def target() -> Iterator[str]:
    """`DATABASE_URL` of an empty database."""
    with postgres_database() as url:
        yield url.replace("+asyncpg", "")


def _settings(source: Path, target: str) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{source}", "TARGET_DATABASE_URL": target}


def _move(source: Path, target: str, *arguments: str) -> Ended:
    return credits_command(
        source.parent, ["migrate-to", "--yes", *arguments], **_settings(source, target)
    )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _query(target: str, statement: str) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(target)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def _tables(target: str) -> list[Any]:
    return _query(target, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")


def _wait_until_alone(target: str) -> None:
    """Return once the server has noticed that its client is gone, and rolled back."""
    others = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + _WAIT_SECONDS
    while _query(target, others):
        assert time.monotonic() < deadline, "the server still serves the dead client"
        time.sleep(0.05)


def _heads(file: Path) -> dict[str, bytes]:
    with sqlite3.connect(file) as connection:
        return dict(connection.execute("SELECT user_id, head_hash FROM accounts").fetchall())


def test_everything_is_moved_and_the_service_goes_on_there(source: Path, target: str) -> None:
    before = _digest(source)

    ended = _move(source, target, "--json")

    assert ended.code == 0, ended.stderr
    moved = ended.document()
    assert moved["rows"]["transactions"] == moved["transactions"] == CHARGES + 20
    assert moved["rows"]["entries"] == 2 * (CHARGES + 20)
    assert set(moved["rows"]) == set(metadata.tables)
    assert dict(_query(target, "SELECT user_id, head_hash FROM accounts")) == _heads(source)
    exports = [
        credits_command(source.parent, ["export"], DATABASE_URL=url).stdout
        for url in (f"sqlite:///{source}", target)
    ]
    assert exports[0] == exports[1]
    assert len(exports[0].splitlines()) == CHARGES + 20
    assert _digest(source) == before
    with credits_process(target) as process, CreditsClient(process.url) as client:
        client.assert_sound()
        reused = client.bill("new", "1", key="c0")
        assert reused.status_code == 422, "keys are known there: another body is refused"
        client.top_up("new", "1")
        assert client.bill("new", "0.25").status_code == 200
        client.assert_sound()


def test_killed_in_the_middle_it_leaves_nothing_and_nobody_could_write_meanwhile(
    source: Path, target: str
) -> None:
    before = _digest(source)
    server = make_url(target)
    with gate((server.host or "127.0.0.1", server.port or 5432), _BYTES_SENT) as relay:
        through = server.set(host="127.0.0.1", port=relay.port)
        settings = _settings(source, through.render_as_string(hide_password=False))
        moving = subprocess.Popen(
            [COMMAND, "migrate-to", "--yes"],
            cwd=source.parent,
            env=environment(**settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        relay.wait_until_shut()
        try:
            refused = credits_process(f"sqlite:///{source}")
            assert refused.wait() != 0
            assert "in use by another process" in "\n".join(refused.lines)
            with (
                sqlite3.connect(source, timeout=0) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("UPDATE accounts SET status = 'frozen'")
            other.close()
        finally:
            moving.kill()
            moving.wait()

    _wait_until_alone(target)
    assert _tables(target) == []
    assert _digest(source) == before
    assert _move(source, target).code == 0, "and it can be done again"


def test_a_ledger_in_use_is_not_moved(source: Path, target: str) -> None:
    with credits_process(f"sqlite:///{source}"):
        ended = _move(source, target)
    assert ended.code == 1
    assert "in use by another process" in ended.stderr
    assert _tables(target) == []


def test_a_target_that_is_not_empty_is_refused(source: Path, target: str) -> None:
    """One that a service has only prepared is empty still."""
    _query(target, "CREATE TABLE theirs (id int)")
    foreign = _move(source, target)
    _query(target, "DROP TABLE theirs")
    assert credits_command(source.parent, ["migrate"], DATABASE_URL=target).code == 0
    assert _move(source, target).code == 0
    again = _move(source, target)
    for ended in (foreign, again):
        assert ended.code == 1
        assert "Use an empty database" in ended.stderr


def test_a_ledger_that_is_broken_is_not_moved(source: Path, target: str) -> None:
    with sqlite3.connect(source) as connection:
        connection.execute("DROP TRIGGER transactions_no_update")
        connection.execute("UPDATE transactions SET description = 'forged' WHERE seq = 7")
    connection.close()
    ended = _move(source, target)
    assert ended.code == 1
    assert "19 hash chain" in ended.stderr
    assert _tables(target) == []


def test_a_ledger_of_another_version_is_not_moved(source: Path, target: str) -> None:
    with sqlite3.connect(source) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    ended = _move(source, target)
    assert ended.code == 1
    assert "has schema 0001" in ended.stderr
    assert "credits migrate" in ended.stderr
    assert _tables(target) == []


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"TARGET_DATABASE_URL": ""}, 2, "TARGET_DATABASE_URL is not set"),
        ({"TARGET_DATABASE_URL": "sqlite:///other.sqlite3"}, 2, "must name a PostgreSQL"),
        ({"TARGET_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"}, 3, "127.0.0.1:1/x"),
        ({"DATABASE_URL": "sqlite:///missing.sqlite3"}, 3, "There is no ledger"),
        ({"DATABASE_URL": "postgresql://127.0.0.1/x"}, 2, "only an embedded one"),
    ],
)
def test_what_cannot_work_is_said_without_secrets(
    source: Path, settings: dict[str, str], code: int, said: str
) -> None:
    given = {**_settings(source, "postgresql://127.0.0.1:1/x"), **settings}
    ended = credits_command(source.parent, ["migrate-to", "--yes"], **given)
    assert (ended.code, said in ended.stderr) == (code, True), ended.stderr
    assert "secret" not in ended.stderr + ended.stdout
    assert not (source.parent / "missing.sqlite3").exists()


def test_nobody_to_ask_means_no(source: Path, target: str) -> None:
    ended = credits_command(source.parent, ["migrate-to"], **_settings(source, target))
    assert ended.code == 2
    assert "--yes" in ended.stderr
    assert _tables(target) == []
