"""Issued keys over HTTP: made once, shown once, changed, rotated, revoked."""

import pytest

from credits.bad_requests import World
from credits.client import ADMIN_KEY, SERVICE_KEY, Json, assert_problem
from credits.key_owner import KeyOwner

_UUID = "0198c0de-0000-7000-8000-000000000000"


@pytest.fixture
def owner(world: World) -> KeyOwner:
    return KeyOwner(world.client)


def test_a_key_is_shown_once_and_is_accepted(owner: KeyOwner) -> None:
    made = owner.make(
        scopes=["chat", "models"],
        allowed_models=["gemini-2.5-flash", "gemini-2.5-pro*"],
        rpm=60,
        tpm=100_000,
        max_concurrent=4,
        limits={"day": "1.5", "month": None, "total": 20},
        metadata={"team": "search"},
    )

    key = made.pop("key")
    assert key.startswith(f"sk-{made['prefix']}-")
    assert key.endswith(made["last_four"])
    assert (made["status"], made["created_by"], made["last_used_at"]) == ("active", "admin", None)
    assert made["limits"] == {"day": "1.5", "month": None, "total": "20"}
    assert made["metadata"] == {"team": "search"}
    shown = owner.done("GET", f"/keys/{made['key_id']}")
    assert shown == made | {"held": "0", "spent": {"day": "0", "month": "0", "total": "0"}}
    assert owner.done("GET", f"/keys?prefix={made['prefix']}")["keys"] == [made]
    assert owner.verdict(key) == {
        "active": True,
        "cache_seconds": 10,
        "key_id": made["key_id"],
        "prefix": made["prefix"],
        "account": owner.account,
        "name": "app",
        "scopes": ["chat", "models"],
        "allowed_models": ["gemini-2.5-flash", "gemini-2.5-pro*"],
        "rpm": 60,
        "tpm": 100_000,
        "max_concurrent": 4,
        "expires_at": None,
    }
    (event,) = owner.events(made["key_id"])
    assert (event["seq"], event["kind"], event["principal"]) == (1, "created", "admin")
    assert event["details"] == {"prefix": made["prefix"]}
    owner.client.assert_sound()


def test_a_repetition_makes_no_second_key_and_does_not_show_the_first(owner: KeyOwner) -> None:
    body = {"account": owner.account, "name": "app", "metadata": {"a": 1, "b": 2}}
    make, rotate = f"make-{owner.account}", f"rotate-{owner.account}"
    made = owner.call("POST", "/keys", body, make)
    assert made.status_code == 201

    again = owner.call("POST", "/keys", {**body, "metadata": {"b": 2, "a": 1}}, make)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    shown = made.json()
    del shown["key"]
    assert again.json() == shown

    path = f"/keys/{shown['key_id']}/rotate"
    rotated = owner.call("POST", path, {}, rotate)
    again = owner.call("POST", path, {}, rotate)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert "key" not in again.json()
    assert owner.reason(rotated.json()["key"]) == "active", "it was rotated once only"

    other = owner.call("POST", "/keys", {**body, "name": "other"}, make)
    assert_problem(other, 422, "idempotency_key_reused", "Idempotency-Key")
    top_up = owner.call("POST", "/topup", {"user_id": owner.account, "amount": "1"}, make)
    assert_problem(top_up, 422, "idempotency_key_reused", "Idempotency-Key")
    assert len(owner.keys()) == 1
    owner.client.assert_sound()


def test_making_and_rotating_need_an_idempotency_key(owner: KeyOwner) -> None:
    rotate = f"/keys/{owner.make()['key_id']}/rotate"
    for path, body in (("/keys", {"account": owner.account, "name": "n"}), (rotate, {})):
        response = owner.client.call("POST", path, body, api_key=ADMIN_KEY)
        assert_problem(response, 400, "idempotency_key_required", "Idempotency-Key")


def test_a_change_is_told_from_what_to_what(owner: KeyOwner) -> None:
    made = owner.make(rpm=60, limits={"day": "1"})
    path = f"/keys/{made['key_id']}"
    wanted = {"name": "new", "rpm": None, "limits": {"day": "2", "month": "9"}}

    changed = owner.done("PATCH", path, wanted)
    assert (changed["name"], changed["rpm"]) == ("new", None)
    assert changed["limits"] == {"day": "2", "month": "9", "total": None}
    assert owner.done("PATCH", path, {"name": "new"}) == changed
    assert owner.done("PATCH", path, {}) == changed

    event, created = owner.events(made["key_id"])
    assert created["kind"] == "created"
    assert event["details"] == {
        "changes": {
            "name": {"from": "app", "to": "new"},
            "rpm": {"from": 60, "to": None},
            "limit_day": {"from": "1", "to": "2"},
            "limit_month": {"from": None, "to": "9"},
        }
    }
    assert (event["seq"], event["principal"]) == (2, "admin")


def test_a_disabled_key_is_refused_until_it_is_enabled(owner: KeyOwner) -> None:
    made = owner.make()
    path = f"/keys/{made['key_id']}"
    assert owner.done("PATCH", path, {"disabled": True})["status"] == "disabled"
    refused = {"active": False, "cache_seconds": 10, "reason": "disabled"}
    assert owner.verdict(made["key"]) == {**refused, "key_id": made["key_id"]}
    owner.done("PATCH", path, {"disabled": False})
    assert owner.reason(made["key"]) == "active"


def test_a_revoked_key_stays_revoked(owner: KeyOwner) -> None:
    made = owner.make()
    path = f"/keys/{made['key_id']}"
    rotated = owner.rotate(made["key_id"], 3600)

    revoked = owner.done("DELETE", path)
    assert owner.done("DELETE", path) == revoked
    assert revoked["status"] == "revoked"
    for key in (made["key"], rotated["key"]):
        assert owner.reason(key) == "revoked"
    assert_problem(owner.call("PATCH", path, {"disabled": False}), 409, "key_revoked")
    assert_problem(owner.call("POST", f"{path}/rotate", {}), 409, "key_revoked")
    kinds = [event["kind"] for event in owner.changes(made["key_id"])]
    assert kinds == ["revoked", "rotated", "created"]


def test_without_grace_only_the_new_secret_is_accepted(owner: KeyOwner) -> None:
    made = owner.make()
    second = owner.rotate(made["key_id"], 3600)
    assert (second["rotated_from"], second["key_id"]) == (made["prefix"], made["key_id"])
    assert owner.verdict(made["key"])["expires_at"] == second["grace_until"]

    third = owner.rotate(made["key_id"])

    reasons = [owner.reason(each["key"]) for each in (made, second, third)]
    assert reasons == ["rotated", "rotated", "active"]
    found = owner.done("GET", f"/keys?prefix={made['prefix']}")["keys"]
    assert [key["prefix"] for key in found] == [third["prefix"]], "found by an old prefix too"


def test_pages_have_every_key_once_newest_first(owner: KeyOwner) -> None:
    other = KeyOwner(owner.client)
    made = [each.make()["key_id"] for each in (owner, other, owner, other, owner)]

    def read(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = owner.done("GET", f"/keys?limit=2{query}{cursor}")
            found += [key["key_id"] for key in page["keys"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    everybodys = read("")
    assert everybodys[:5] == made[::-1]
    assert len(set(everybodys)) == len(everybodys)
    assert read(f"&account={owner.account}") == made[::-2]
    assert read("&account=nobody") == []


def test_events_come_in_pages(owner: KeyOwner) -> None:
    path = f"/keys/{owner.make()['key_id']}"
    for rpm in (1, 2):
        owner.done("PATCH", path, {"rpm": rpm})
    first = owner.done("GET", f"{path}/events?limit=2")
    rest = owner.done("GET", f"{path}/events?cursor={first['next_cursor']}")
    assert [event["seq"] for event in first["events"] + rest["events"]] == [3, 2, 1]
    assert rest["next_cursor"] is None


def test_an_account_must_be_there_and_open(owner: KeyOwner) -> None:
    for account, status, code in (
        ("nobody", 404, "account_not_found"),
        ("closed", 409, "account_closed"),
    ):
        response = owner.call("POST", "/keys", {"account": account, "name": "n"})
        assert_problem(response, status, code)
    assert owner.done("POST", "/keys", {"account": "frozen", "name": "n"})["status"] == "active"


def test_only_admins_manage_keys_and_an_issued_key_opens_nothing_here(owner: KeyOwner) -> None:
    made = owner.make(scopes=["admin"])
    path = f"/keys/{made['key_id']}"
    calls: list[tuple[str, str, Json | None]] = [
        ("POST", "/keys", {"account": owner.account, "name": "n"}),
        ("GET", "/keys", None),
        ("GET", path, None),
        ("GET", f"{path}/events", None),
        ("PATCH", path, {"disabled": True}),
        ("POST", f"{path}/rotate", {}),
        ("DELETE", path, None),
    ]
    for method, asked, body in calls:
        refused = owner.client.call(method, asked, body, key="x", api_key=SERVICE_KEY)
        assert_problem(refused, 403, "permission_denied")
        stranger = owner.client.call(method, asked, body, key="x", api_key=made["key"])
        assert_problem(stranger, 401, "invalid_api_key")
    assert owner.reason(made["key"]) == "active"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes[0]"),
        ({"scopes": ["chat", "chat"]}, "scopes"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": ["*"]}, "allowed_models[0]"),
        ({"allowed_models": ["a*b"]}, "allowed_models[0]"),
        ({"rpm": 0}, "rpm"),
        ({"max_concurrent": 2**31}, "max_concurrent"),
        ({"limits": {"day": "0"}}, "limits.day"),
        ({"limits": {"week": "1"}}, "limits.week"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_is_wrong_is_named(owner: KeyOwner, body: Json, field: str) -> None:
    response = owner.call("POST", "/keys", {"account": owner.account, "name": "n", **body})
    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert owner.keys() == []


@pytest.mark.parametrize("key_id", ["none", "n%00ne", "%C3%A4", _UUID])
def test_a_key_that_was_never_issued(owner: KeyOwner, key_id: str) -> None:
    path = f"/keys/{key_id}"
    calls: list[tuple[str, str, Json | None]] = [
        ("GET", path, None),
        ("GET", f"{path}/events", None),
        ("PATCH", path, {"rpm": 1}),
        ("POST", f"{path}/rotate", {}),
        ("DELETE", path, None),
    ]
    for method, asked, body in calls:
        assert_problem(owner.call(method, asked, body), 404, "key_not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=x", "cursor"),
        ("cursor=MQ==", "cursor"),
        ("cursor=IngAIg==", "cursor"),
        ("prefix=short", "prefix"),
        ("account=%00", "account"),
        ("limit=0", "limit"),
    ],
)
def test_what_is_no_page_is_told(owner: KeyOwner, query: str, field: str) -> None:
    assert_problem(owner.call("GET", f"/keys?{query}"), 422, "invalid_value", field)


def test_a_cursor_of_events_is_a_number_of_one(owner: KeyOwner) -> None:
    path = f"/keys/{owner.make()['key_id']}/events?cursor=LTE="
    assert_problem(owner.call("GET", path), 422, "invalid_value", "cursor")
