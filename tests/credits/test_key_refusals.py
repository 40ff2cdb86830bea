"""`POST /keys/refusals`: what the proxy refused stands on the records of the keys."""

from pathlib import Path
from typing import Any

import pytest

from credits.client import CreditsClient, app_of, assert_problem
from credits.key_owner import KeyOwner
from credits_service.keys.rules import CACHE_SECONDS
from support.live_server import live_server

_SOME = {"key_id": "0" * 36, "reason": "rpm", "count": 1}


def test_reported_refusals_are_events_of_their_keys(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    with live_server(app_of(url)) as base_url, CreditsClient(base_url) as client:
        owner = KeyOwner(client)
        one, other = owner.make()["key_id"], owner.make()["key_id"]
        reported = [
            {"key_id": one, "reason": "missing_scope", "count": 1, "request_id": "req_of_a_client"},
            {"key_id": one, "reason": "tpm", "count": 40},
            {"key_id": other, "reason": "spend_day", "count": 2},
            {"key_id": "0" * 36, "reason": "rpm", "count": 1},
        ]
        for _ in range(2):
            answer = client.call("POST", "/keys/refusals", {"refusals": reported})
            assert (answer.status_code, answer.json()) == (200, {"noted": 4})
    with live_server(app_of(url)) as base_url, CreditsClient(base_url) as client:
        owner.client = client
        first, second, made = owner.events(one)
        [told, _] = owner.events(other)
        client.assert_sound()

    assert made["kind"] == "created"
    assert [first["details"], second["details"]] == [
        {"reason": "tpm", "count": 80},
        {"reason": "missing_scope", "count": 2},
    ]
    assert (second["kind"], second["principal"]) == ("refused", "tester")
    assert second["request_id"] == "req_of_a_client"
    assert first["request_id"].startswith("req_")
    assert told["details"] == {"reason": "spend_day", "count": 4}


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"refusals": []},
        {"refusals": [_SOME] * 501},
        {"refusals": [{**_SOME, "reason": "mood"}]},
        {"refusals": [{**_SOME, "count": 0}]},
        {"refusals": [{**_SOME, "key_id": "sk-not-an-id"}]},
        {"refusals": [{**_SOME, "request_id": "a\x00b"}]},
    ],
)
def test_a_report_that_makes_no_sense_is_refused(
    service: CreditsClient, report: dict[str, Any]
) -> None:
    answer = service.call("POST", "/keys/refusals", report)

    assert answer.status_code == 422, answer.text


def test_a_report_needs_a_key_of_a_service(service: CreditsClient) -> None:
    answer = service.call("POST", "/keys/refusals", {"refusals": [_SOME]}, api_key="sk-unknown-key")

    assert_problem(answer, 401, "invalid_api_key")


def test_which_key_was_refused_is_told_to_who_has_all_of_it(service: CreditsClient) -> None:
    owner = KeyOwner(service)
    made = owner.make()
    owner.done("PATCH", f"/keys/{made['key_id']}", {"disabled": True})
    guessed = made["key"].replace(made["key"][-9:-6], "000")

    assert owner.verdict(made["key"]) == {
        "active": False,
        "cache_seconds": CACHE_SECONDS,
        "reason": "disabled",
        "key_id": made["key_id"],
    }
    assert "key_id" not in owner.verdict(guessed)
