"""A backup taken under load has every charge that was acknowledged before it, and can be used."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from credits.client import CreditsClient, credits_process
from support.charging import charging
from support.postgres_cluster import (
    HOST,
    SUPERUSER,
    PostgresServer,
    as_owner,
    free_port,
    postgres_server,
    server_binaries,
    temporary_folder,
    wait_until,
)

SCRIPTS = Path(__file__).resolve().parents[2] / "deploy" / "backup"
TIMEOUT_SECONDS = 120
ENOUGH = 20
GRANTED = "1000"


def run(script: str, *arguments: object, **environment: object) -> str:
    """Run one of the scripts as an operator would; it must succeed."""
    done = attempt(script, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def attempt(
    script: str, *arguments: object, **environment: object
) -> "subprocess.CompletedProcess[str]":
    programs = Path(sys.executable).parent
    return subprocess.run(
        [str(SCRIPTS / script), *map(str, arguments)],
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PG_BIN": str(server_binaries()),
            "CREDITS": str(programs / "credits"),
            **{name: str(value) for name, value in environment.items()},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


CHARGES = "SELECT id FROM transactions WHERE kind = 'charge'"


def charges_in(ledger: Path) -> set[str]:
    """Return the ids of an embedded ledger's charges."""
    with closing(sqlite3.connect(ledger)) as database:
        return {identity for (identity,) in database.execute(CHARGES)}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Belongs to PostgreSQL's user, as do `archive` and `backups` in it."""
    made = temporary_folder(None)
    for name in ("archive", "backups"):
        (made / name).mkdir()
        if os.geteuid() == 0:
            shutil.chown(made / name, SUPERUSER, SUPERUSER)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def archiving(folder: Path) -> Iterator[PostgresServer]:
    """A server that keeps its log with our script."""
    # The repository may be where PostgreSQL's user can't look.
    script = shutil.copy(SCRIPTS / "archive_wal.sh", folder)
    command = f"{script} {folder / 'archive'} %p %f"
    with postgres_server(archive_mode="on", archive_command=command) as made:
        yield made


@pytest.fixture
def server(archiving: PostgresServer) -> PostgresServer:
    """The same with an empty ledger."""
    archiving.sql(
        "DROP DATABASE ledger WITH (FORCE)", "CREATE DATABASE ledger", database="postgres"
    )
    return archiving


def the_one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_dump_under_load_restores_to_a_sound_ledger(
    server: PostgresServer, tmp_path: Path
) -> None:
    with credits_process(server.url) as service, CreditsClient(service.url) as client:
        client.top_up("ann", GRANTED)
        with charging(service.url, "ann") as charges:
            charges.wait_for_more(ENOUGH)
            before = charges.acknowledged()
            run(
                "backup_postgres.sh",
                DATABASE_URL=server.url,
                CHECK_URL=server.url,
                BACKUPS=tmp_path,
                TEXTFILE_DIR=tmp_path,
            )
            charges.wait_for_more(ENOUGH)
    dump = the_one(tmp_path, "ledger-*.dump")
    restored_url = server.url.replace("/ledger", "/restored")
    server.sql("CREATE DATABASE restored", database="postgres")

    said = run("restore_postgres.sh", dump, restored_url)

    assert "Restored and verified" in said
    restored = set(server.sql(CHARGES, database="restored").split())
    ever = set(server.sql(CHARGES).split())
    assert {charge.transaction_id for charge in before} <= restored < ever
    assert "ledger_backup_last_success_timestamp_seconds 1" in (
        (tmp_path / "ledger_backup.prom").read_text()
    )
    # The database of the check is gone, and no other is ever written over.
    databases = server.sql("SELECT datname FROM pg_database", database="postgres").split()
    assert not [name for name in databases if name.startswith("ledger_check_")]
    again = attempt("restore_postgres.sh", dump, restored_url)
    assert again.returncode == 1
    assert "the database is not empty" in again.stderr


def test_an_embedded_ledger_is_copied_under_load_and_put_back(tmp_path: Path) -> None:
    data, backups = tmp_path / "data", tmp_path / "backups"
    data.mkdir()
    backups.mkdir()
    url = f"sqlite:///{data / 'ledger.sqlite3'}"
    with credits_process(url) as service, CreditsClient(service.url) as client:
        client.top_up("ann", GRANTED)
        with charging(service.url, "ann") as charges:
            charges.wait_for_more(ENOUGH)
            before = charges.acknowledged()
            run("backup_sqlite.sh", DATA_DIR=data, BACKUPS=backups, TEXTFILE_DIR=tmp_path)
            charges.wait_for_more(ENOUGH)
    ever = charges_in(data / "ledger.sqlite3")

    run("restore_sqlite.sh", the_one(backups, "ledger-*.sqlite3"), data)

    restored = charges_in(data / "ledger.sqlite3")
    assert {charge.transaction_id for charge in before} <= restored < ever
    # What stood there before has later bookings, and is kept.
    assert charges_in(the_one(data, "replaced-*/ledger.sqlite3")) == ever
    assert (tmp_path / "ledger_backup.prom").exists()
    with credits_process(url) as service, CreditsClient(service.url) as client:
        assert client.bill("ann", "0.01").status_code == 200


def make_ledger(data: Path) -> None:
    """Make an empty embedded ledger."""
    subprocess.run(
        [str(Path(sys.executable).parent / "credits"), "migrate"],
        cwd=data,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(data)},
        capture_output=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )


def spoil(ledger: Path) -> None:
    """Give an account credit behind the service's back."""
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("UPDATE accounts SET balance_nanos = balance_nanos + 1")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("spoiled")
    with (
        credits_process(f"sqlite:///{data / 'ledger.sqlite3'}") as service,
        CreditsClient(service.url) as client,
    ):
        client.top_up("ann", GRANTED)
    spoil(data / "ledger.sqlite3")
    return data


def test_a_ledger_that_does_not_agree_is_not_kept_as_a_backup(
    spoiled: Path, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()

    done = attempt("backup_sqlite.sh", DATA_DIR=spoiled, BACKUPS=backups, TEXTFILE_DIR=tmp_path)

    assert done.returncode == 1
    assert "nothing was kept" in done.stderr
    assert list(backups.iterdir()) == []
    assert not (tmp_path / "ledger_backup.prom").exists()


def test_the_daily_check_tells_prometheus_what_it_found(spoiled: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    make_ledger(sound)
    found = tmp_path / "ledger_verify.prom"

    run("verify.sh", DATA_DIR=sound, TEXTFILE_DIR=tmp_path)
    assert "\nledger_verify_sound 1\n" in found.read_text()
    done = attempt("verify.sh", DATA_DIR=spoiled, TEXTFILE_DIR=tmp_path)
    assert done.returncode == 1
    assert "\nledger_verify_sound 0\n" in found.read_text()
    # Not to be able to look is no finding: the last one stands, and becomes old.
    done = attempt("verify.sh", DATABASE_URL=f"postgresql://x@{HOST}:1/x", TEXTFILE_DIR=tmp_path)
    assert done.returncode == 1
    assert "could not be checked" in done.stderr
    assert "\nledger_verify_sound 0\n" in found.read_text()


def test_a_piece_of_the_log_that_is_kept_is_never_overwritten(tmp_path: Path) -> None:
    archive, piece = tmp_path / "archive", tmp_path / "piece"
    archive.mkdir()
    piece.write_bytes(b"one")
    name = "000000010000000000000001"

    run("archive_wal.sh", archive, piece, name)
    run("archive_wal.sh", archive, piece, name)
    piece.write_bytes(b"two")
    done = attempt("archive_wal.sh", archive, piece, name)

    assert done.returncode == 1
    assert (archive / name).read_bytes() == b"one"


def test_a_ledger_is_restored_to_a_chosen_moment(server: PostgresServer, folder: Path) -> None:
    """What was acknowledged before it is there, and what was asked for after it is not."""
    everything = server.url.rpartition("/")[0]
    with credits_process(server.url) as service, CreditsClient(service.url) as client:
        client.top_up("ann", GRANTED)
        with charging(service.url, "ann") as charges:
            charges.wait_for_more(ENOUGH)
            run("base_backup.sh", REPLICATION_URL=everything, BACKUPS=folder / "backups")
            charges.wait_for_more(ENOUGH)
            moment = datetime.now(UTC)
            charges.wait_for_more(ENOUGH)
    archive_all(server)
    port, data = free_port(), folder / "restored"
    try:
        run(
            "restore_to_time.sh",
            the_one(folder / "backups", "base-*"),
            folder / "archive",
            moment.isoformat(sep=" "),
            data,
            port,
            "ledger",
        )
        target = f"postgresql://{SUPERUSER}@{HOST}:{port}/ledger"
        restored = set(server.run("psql", "-XqtA", "-d", target, "-c", CHARGES).split())
    finally:
        stop(data)

    at = moment.timestamp()
    before = {one.transaction_id for one in charges.acknowledged() if one.acknowledged_at < at}
    after = {one.transaction_id for one in charges.acknowledged() if one.asked_at > at}
    assert len(before) >= 2 * ENOUGH
    assert after
    assert before <= restored
    assert not after & restored
    # The server that is in use was left alone.
    assert before | after <= set(server.sql(CHARGES).split())


def archive_all(server: PostgresServer) -> None:
    """Close the piece of the log that is being written, and wait until it is kept."""
    piece = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    server.sql("SELECT pg_switch_wal()")
    last = "SELECT last_archived_wal FROM pg_stat_archiver"
    wait_until("the log is archived", lambda: server.sql(last) >= piece)


def stop(data: Path) -> None:
    subprocess.run(
        [str(server_binaries() / "pg_ctl"), "stop", "-D", str(data), "-m", "immediate", "-w"],
        capture_output=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
        **as_owner(),  # type: ignore[call-overload]  # options by name
    )
