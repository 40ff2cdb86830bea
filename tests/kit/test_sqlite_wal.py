"""SQLite's write-ahead log, which the workers of a service switch on together."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from service_kit.sqlite_wal import use_wal

_TOGETHER = 8
_FILES = 60


def _mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return mode


def test_many_that_make_one_file_at_once_all_get_it(tmp_path: Path) -> None:
    """Without trying again, about one file in forty was refused to one of four."""
    barrier = Barrier(_TOGETHER)

    def make(number: int) -> None:
        for file in range(_FILES):
            barrier.wait(10)
            path = tmp_path / f"{file}.sqlite3"
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
                use_wal(connection, timeout_seconds=30)
                connection.execute("CREATE TABLE IF NOT EXISTS seen (number)")
                connection.execute("INSERT INTO seen VALUES (?)", (number,))

    with ThreadPoolExecutor(_TOGETHER) as pool:
        list(pool.map(make, range(_TOGETHER)))
    for file in range(_FILES):
        path = tmp_path / f"{file}.sqlite3"
        assert _mode(path) == "wal"
        with closing(sqlite3.connect(path)) as connection:
            count = connection.execute("SELECT count(*) FROM seen").fetchone()[0]
        assert count == _TOGETHER


def test_a_file_that_others_keep_is_given_up_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite3"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as own,
    ):
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            use_wal(own, timeout_seconds=0.05)
        other.execute("COMMIT")
        use_wal(own, timeout_seconds=0)
    assert _mode(path) == "wal"


def test_a_file_that_nobody_may_write_is_said_at_once(tmp_path: Path) -> None:
    """Only a file that is kept by others is worth waiting for."""
    path = tmp_path / "read-only.sqlite3"
    path.touch()
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        use_wal(connection, timeout_seconds=3600)
