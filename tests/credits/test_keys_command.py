"""`credits keys`: what it does, says, and how it ends."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from credits.client import SERVICE_KEY, CreditsClient, Json, app_of
from credits.command import Ended, credits_command
from credits.key_owner import KeyOwner
from credits_service.api.wire_keys import KeyPatch, KeyRequest
from support.live_server import live_server

Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CreditsClient]:
    """The command speaks HTTP: the tests of the API have both engines behind it."""
    file = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    url = f"sqlite+aiosqlite:///{file}"
    with live_server(app_of(url)) as base_url, CreditsClient(base_url) as found:
        yield found


@pytest.fixture
def owner(client: CreditsClient) -> KeyOwner:
    return KeyOwner(client)


@pytest.fixture
def run(client: CreditsClient, tmp_path: Path) -> Run:
    """Run `credits keys` against the service."""

    def run_command(*arguments: str, **settings: str) -> Ended:
        url = str(client.http.base_url)
        return credits_command(tmp_path, ["keys", *arguments], CREDITS_SERVICE_URL=url, **settings)

    return run_command


def _document(ended: Ended) -> Json:
    assert ended.code == 0, ended.stderr
    return ended.document()


def test_a_key_is_made_changed_rotated_and_revoked(run: Run, owner: KeyOwner) -> None:
    options = ("--scope", "chat", "--model", "gemini-2.5-*", "--rpm", "60", "--day", "2.50")
    made = _document(run("create", owner.account, "--name", "ci", *options, "--json"))
    assert (made["scopes"], made["allowed_models"]) == (["chat"], ["gemini-2.5-*"])
    assert (made["rpm"], made["limits"]["day"]) == (60, "2.5")
    assert owner.reason(made["key"]) == "active"

    key_id = made["key_id"]
    freed = ("--model", "none", "--rpm", "none", "--day", "none", "--total", "9", "--disable")
    changed = _document(run("change", key_id, *freed, "--json"))
    assert (changed["allowed_models"], changed["rpm"]) == (None, None)
    assert changed["limits"] == {"day": None, "month": None, "total": "9"}
    assert owner.reason(made["key"]) == "disabled"
    assert "active" in run("change", key_id, "--enable").stdout

    rotated = _document(run("rotate", key_id, "--grace", "60", "--json"))
    assert [owner.reason(each["key"]) for each in (made, rotated)] == ["active", "active"]

    asked = run("revoke", key_id)
    assert (asked.code, "nobody to ask" in asked.stderr) == (2, True)
    assert rotated["prefix"] in asked.stderr
    assert _document(run("revoke", key_id, "--yes", "--json"))["status"] == "revoked"
    assert owner.reason(rotated["key"]) == "revoked"
    assert run("change", key_id, "--enable").code == 1

    told = _document(run("events", key_id, "--json"))["events"]
    done = [event["kind"] for event in told if event["kind"] != "refused"]
    assert done == ["revoked", "rotated", "changed", "changed", "created"]
    table = run("events", key_id).stdout
    assert json.dumps(told[-1]["details"]) in table


def test_people_see_the_key_once_and_lists_never(run: Run, owner: KeyOwner) -> None:
    made = run("create", owner.account, "--name", "app")
    assert "shown only now" in made.stderr
    (key,) = [word for word in made.stdout.split() if word.startswith("sk-")]
    assert owner.reason(key) == "active"
    (listed,) = _document(run("list", owner.account, "--json"))["keys"]
    for shown in (
        run("list"),
        run("list", "--prefix", listed["prefix"]),
        run("show", listed["key_id"]),
    ):
        assert shown.code == 0, shown.stderr
        assert listed["key_id"] in shown.stdout
        assert key not in shown.stdout + shown.stderr
    assert "spent (month)" in shown.stdout


def test_a_repeated_command_says_how_a_lost_key_is_replaced(run: Run, owner: KeyOwner) -> None:
    words = ("create", owner.account, "--name", "app", "--idempotency-key", "once")
    first = _document(run(*words, "--json"))
    again = run(*words)
    assert again.code == 0
    assert f"credits keys rotate {first['key_id']} --grace 0" in again.stderr
    assert first["key"] not in again.stdout + again.stderr
    assert "key" not in _document(run(*words, "--json"))
    assert len(owner.keys()) == 1


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (("create", "nobody", "--name", "n"), {}, 1, "There is no account"),
        (("create", "ann"), {}, 2, "--name"),
        (("create", "ann", "--name", "n", "--rpm", "0"), {}, 2, "greater than 0"),
        (("create", "ann", "--name", "n", "--day", "-1"), {}, 2, "no amount"),
        (("create", "ann", "--name", "n", "--scope", "root"), {}, 2, "root"),
        (("change", "some"), {}, 2, "nothing to change"),
        (("create", "ann", "--name", "n", "--metadata", "[1]"), {}, 2, "a JSON object"),
        (("change", "some", "--metadata", "{"), {}, 2, "a JSON object"),
        (("show", "some"), {}, 1, "There is no key with this id.\n"),
        (("rotate", "some"), {}, 2, "--grace"),
        (("list",), {"CREDITS_API_KEY": SERVICE_KEY}, 1, "admin key"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, words: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    ended = run(*words, **settings)
    assert (ended.code, said in ended.stderr) == (code, True), ended.stderr
    if words[0] == "show":
        assert "`credits keys list` shows the keys" in ended.stderr


def test_every_setting_of_a_key_can_be_made_and_changed(run: Run, owner: KeyOwner) -> None:
    """What the API takes the command can say; `account` is an argument, and nothing to change."""
    settings: dict[str, tuple[tuple[str, ...], object]] = {
        "name": (("--name", "app"), "app"),
        "scopes": (("--scope", "chat", "--scope", "billing"), ["chat", "billing"]),
        "allowed_models": (("--model", "gemini-2.5-*"), ["gemini-2.5-*"]),
        "rpm": (("--rpm", "60"), 60),
        "tpm": (("--tpm", "1000"), 1000),
        "max_concurrent": (("--max-concurrent", "2"), 2),
        "limits": (
            ("--day", "1", "--month", "2", "--total", "3"),
            {"day": "1", "month": "2", "total": "3"},
        ),
        "expires_at": (("--expires-at", "2099-01-01T00:00:00Z"), "2099-01-01T00:00:00.000000Z"),
        "metadata": (("--metadata", '{"team": "a", "n": 1}'), {"team": "a", "n": 1}),
        "disabled": (("--disable",), True),
    }
    assert set(KeyPatch.__struct_fields__) == set(settings)
    assert set(KeyRequest.__struct_fields__) == {*settings, "account"} - {"disabled"}
    words = [word for name in settings for word in settings[name][0] if name != "disabled"]

    made = _document(run("create", owner.account, *words, "--json"))
    plain = owner.make(name="plain")["key_id"]
    changed = _document(run("change", plain, *words, "--disable", "--json"))

    for name, (_, value) in settings.items():
        assert changed[name] == value, name
        assert made[name] == (False if name == "disabled" else value), name
    assert '{"team": "a", "n": 1}' in run("show", made["key_id"]).stdout
    cleared = _document(run("change", made["key_id"], "--metadata", "none", "--json"))
    assert cleared["metadata"] is None


def test_a_key_in_place_of_its_id_is_neither_sent_nor_shown(run: Run, owner: KeyOwner) -> None:
    key = owner.make()["key"]
    for words in (("show",), ("rotate", "--grace", "0")):
        ended = run(words[0], key, *words[1:])
        assert ended.code == 2, ended.stderr
        assert "its id is wanted" in ended.stderr
        assert key not in ended.stdout + ended.stderr
