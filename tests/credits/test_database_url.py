"""`DATABASE_URL`: one server, or several of which one can be written to."""

import pytest

from credits_service.core.errors import ConfigurationError
from credits_service.db.engine import database_url, shown_url
from credits_service.db.postgresql import server_urls


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("postgresql://u:p@h/db", ["postgresql://u:p@h/db"]),
        ("postgres://u@h:1/db?sslmode=require", ["postgresql://u@h:1/db?sslmode=require"]),
        ("postgresql:///db?host=%2Frun%2Fpg", ["postgresql:///db?host=%2Frun%2Fpg"]),
        (
            "postgresql://u:p%40@a:1,b/db?sslmode=require",
            [
                "postgresql://u:p%40@a:1/db?sslmode=require&target_session_attrs=read-write",
                "postgresql://u:p%40@b:5432/db?sslmode=require&target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql://u@/db?host=a&host=b:2",
            [
                "postgresql://u@a:5432/db?target_session_attrs=read-write",
                "postgresql://u@b:2/db?target_session_attrs=read-write",
            ],
        ),
        (
            "postgresql+asyncpg://a:1,[::1]:2/db?target_session_attrs=primary",
            [
                "postgresql://a:1/db?target_session_attrs=primary",
                "postgresql://[::1]:2/db?target_session_attrs=primary",
            ],
        ),
    ],
)
def test_each_server_gets_the_whole_rest(text: str, servers: list[str]) -> None:
    assert server_urls(database_url(text)) == servers


@pytest.mark.parametrize("servers", ["a:1,", "a:x,b:1", "a:1:2,b", ",", "a,b:123456"])
def test_servers_that_make_no_sense_are_refused(servers: str) -> None:
    with pytest.raises(ConfigurationError, match="not a database URL"):
        database_url(f"postgresql://u:p@{servers}/db")


def test_hosts_in_the_query_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="for several servers"):
        database_url("postgresql://u@/db?host=a&host=b:x")


def test_what_is_shown_names_the_servers_and_no_secret() -> None:
    shown = shown_url(database_url("postgresql://u:secret@a:1,b:2/db?password=secret"))
    assert "a:1,b:2/db" in shown
    assert "secret" not in shown
