"""An SQLite ledger is written by one process: a second one is told so, and what to do."""

from pathlib import Path

import pytest

from credits.client import CreditsClient, credits_process
from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import database_url
from credits_service.db.exclusive import exclusive


def test_a_second_service_on_a_ledger_is_refused_with_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    with credits_process(url) as first, CreditsClient(first.url) as client:
        client.top_up("ann", "1")
        second = credits_process(url)
        assert second.wait() != 0
        assert len(second.lines) == 1
        assert "in use by another process" in second.lines[0]
        assert "DATABASE_URL=postgresql://" in second.lines[0]
        assert client.bill("ann", "1").status_code == 200


def test_a_killed_service_leaves_no_lock_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    with credits_process(url) as first:
        first.kill()
    with credits_process(url) as second, CreditsClient(second.url) as client:
        client.top_up("ann", "1")
        client.assert_sound()


def test_the_lock_is_one_processs_until_it_lets_go(tmp_path: Path) -> None:
    """Whoever else would write, such as a migration to PostgreSQL, takes the same lock."""
    url = database_url(f"sqlite:///{tmp_path}/ledger.sqlite3")
    with exclusive(url):
        with pytest.raises(ConfigurationError, match="in use by another process"):
            exclusive(url).__enter__()
        refused = credits_process(str(url))
        assert refused.wait() != 0
    with exclusive(url):
        pass


def test_postgresql_is_written_by_any_number(tmp_path: Path) -> None:
    url = database_url("postgresql://user@host/name")
    with exclusive(url), exclusive(url):
        assert not list(tmp_path.iterdir())
