"""Addresses in settings are refused before a library can quote a piece of a password from one."""

import pytest

from service_kit.addresses import check_base_url, check_store_uri


@pytest.mark.parametrize(
    "uri",
    [
        "redis://store:6379/0",
        "rediss://app:pa%2Fss@store:6379/0",
        "redis+unix:///run/redis.sock",
        "valkey://[::1]:6379",
        "postgresql://me:pw@one:5432,two:5433/usage?sslmode=require",
        "postgresql:///usage?host=/run/postgresql",
    ],
)
def test_an_address_that_can_be_read_is_taken(uri: str) -> None:
    check_store_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://app:hunter2/x@store:6379/0",
        "redis://app:hunter2?x@store:6379/0",
        "redis://app:hunter2#x@store:6379/0",
        "postgresql://me:hunter2/x@one:5432/usage",
        "redis://[hunter2]:6379",
        "redis://[hunter2",
    ],
)
def test_a_password_that_ends_too_early_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ValueError, match="as %XX") as refusal:
        check_store_uri(uri)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "https://ledger.example/base"])
def test_a_base_url_is_an_address(url: str) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@ledger.example",
        "https://hunter2@ledger.example",
        "https://ledger.example?key=hunter2",
        "https://ledger.example#hunter2",
        "https://ledger.example:hunter2",
        "https://",
        "hunter2",
    ],
)
def test_a_base_url_with_more_in_it_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"address only|must begin|as %XX") as refusal:
        check_base_url(url)

    assert "hunter2" not in str(refusal.value)
