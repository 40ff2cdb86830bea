"""`credits verify`, `migrate` and `export`, on the ledger's own database."""

import asyncio
import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from credits.command import Ended, credits_command, fill
from credits_service.db.engine import DatabaseLimits, database_url, open_database

CHARGES = 60


@pytest.fixture
def ledger(ledger_url: str) -> str:
    """A ledger with something in it."""
    fill(ledger_url, CHARGES)
    return ledger_url


def _execute(url: str, *statements: str) -> None:
    async def execute() -> None:
        database = open_database(database_url(url), DatabaseLimits())
        try:
            async with database.writer.begin() as connection:
                for statement in statements:
                    await connection.execute(text(statement))
        finally:
            await database.close()

    asyncio.run(execute())


def _forge(url: str) -> None:
    switch = (
        "DROP TRIGGER transactions_no_update"
        if url.startswith("sqlite")
        else "SET session_replication_role = replica"
    )
    forged = (
        "UPDATE transactions SET description = 'forged' WHERE seq = 2 AND user_id LIKE 'user-03%'"
    )
    _execute(url, switch, forged)


def _run(folder: Path, url: str, *arguments: str) -> Ended:
    return credits_command(folder, arguments, DATABASE_URL=url)


def test_verify_finds_what_was_forged_and_where(ledger: str, tmp_path: Path) -> None:
    sound = _run(tmp_path, ledger, "verify", "--json")
    assert (sound.code, sound.stderr) == (0, "")
    assert sound.document() == {
        "ok": True,
        "accounts": 20,
        "transactions": CHARGES + 20,
        "violations": [],
        "violations_total": 0,
    }
    _forge(ledger)
    broken = _run(tmp_path, ledger, "verify")
    assert broken.code == 1
    assert "19 hash chain" in broken.stdout
    assert "user-03/ä Ω" in broken.stdout


def test_verify_looks_at_the_accounts_that_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    fill(url, CHARGES)
    _forge(url)
    one = _run(tmp_path, url, "verify", "--json", "--user", "user-04/ä Ω")
    assert (one.code, one.document()["transactions"]) == (0, 4)
    other = _run(tmp_path, url, "--json", "verify", "--user", "user-03/ä Ω")
    assert (other.code, other.document()["violations"][0]["user_id"]) == (1, "user-03/ä Ω")
    unknown = _run(tmp_path, url, "verify", "--user", "nobody")
    assert (unknown.code, "There is no account nobody" in unknown.stderr) == (1, True)


def test_an_export_is_whole_exact_and_counted(ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    told = _run(tmp_path, ledger, "export", "--output", str(file), "--json").document()
    content = file.read_bytes()
    assert told["transactions"] == CHARGES + 20
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    records = [json.loads(line) for line in content.splitlines()]
    assert records[0]["details"]["source"] == "paid"
    for record in records:
        wallet = {entry["leg"]: entry["amount"] for entry in record["entries"]}["wallet"]
        assert wallet == record["amount"]
    assert [each.name for each in tmp_path.glob("ledger.jsonl*")] == ["ledger.jsonl"]

    shown = _run(tmp_path, ledger, "export", "user-03/ä Ω", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert [row["seq"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["amount"] == "1000"
    written = shown.stdout.replace("\n", "\r\n").encode()
    assert hashlib.sha256(written).hexdigest() in shown.stderr


def test_the_help_of_an_export_says_that_nothing_in_it_is_guarded(tmp_path: Path) -> None:
    said = " ".join(credits_command(tmp_path, ["export", "--help"]).stdout.split())
    assert "takes one that begins with = + - or @ for a formula" in said
    assert "credits statement --csv" in said


def test_an_export_never_seems_to_be_there_when_it_is_not(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    fill(url, CHARGES)
    (tmp_path / "taken").write_text("mine")
    assert _run(tmp_path, url, "export", "-o", "taken").code == 2
    assert (tmp_path / "taken").read_text() == "mine"
    refused = _run(tmp_path, url, "export", "-o", "missing/export")
    assert (refused.code, "can't be written" in refused.stderr) == (1, True)


def test_migrate_says_from_where_to_where(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    before = _run(tmp_path, url, "migrate", "--json").document()
    assert before["from"] is None
    assert _run(tmp_path, url, "migrate").stdout.endswith("already.\n")
    _execute(url, "UPDATE alembic_version SET version_num = '9999'")
    newer = _run(tmp_path, url, "migrate")
    assert (newer.code, "newer version" in newer.stderr) == (1, True)
    unread = _run(tmp_path, url, "verify")
    assert (unread.code, "has schema 9999" in unread.stderr) == (1, True)


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in ("verify", "export"):
        ended = credits_command(tmp_path, [command], DATA_DIR=str(tmp_path / "data"))
        assert (ended.code, "There is no ledger" in ended.stderr) == (3, True)
    assert not (tmp_path / "data").exists()
    away = _run(tmp_path, "postgresql://me:secret@127.0.0.1:1/x", "verify")
    assert away.code == 3
    assert "secret" not in away.stderr
