"""Two services on one ledger reserve no credit twice: a hold books nothing that could collide."""

from collections.abc import Iterator

import pytest

from credits.client import CreditsClient, app_of
from credits.load import Request, all_at_once
from support.live_server import live_server

_HOLDS = 40
_ROUNDS = 3


@pytest.fixture
def base_urls(ledger_url: str) -> Iterator[list[str]]:
    if ledger_url.startswith("sqlite"):
        pytest.skip("one process only")
    with live_server(app_of(ledger_url)) as first, live_server(app_of(ledger_url)) as second:
        yield [first, second]


def test_holds_at_once_reserve_what_is_there_and_no_more(base_urls: list[str]) -> None:
    with CreditsClient(base_urls[0]) as client:
        for number in range(_ROUNDS):
            user_id = f"user-{number}"
            client.top_up(user_id, "10")
            requests: list[Request] = [
                ("/holds", {"user_id": user_id, "amount": "1"}, f"{user_id}-{at}")
                for at in range(_HOLDS)
            ]
            statuses = [response.status_code for response in all_at_once(base_urls, requests)]
            assert sorted(statuses) == [201] * 10 + [402] * (_HOLDS - 10)
            assert client.account(user_id)["available"] == "0"
        client.assert_sound()
