"""The rules of issued keys: what a key looks like, when it is accepted, what rotation ends."""

import re

import msgspec
import pytest

from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.keys.rules import CACHE_SECONDS, cache_seconds, changed, refusal, rotated
from credits_service.keys.secret import NewSecret, make_secret
from credits_service.keys.state import IssuedKey, KeySecret
from service_kit.issued_keys import PresentedKey, presented
from service_kit.log_text import mask_secrets

_NOW = 1_800_000_000_000_000
_KEY = IssuedKey(
    id="id",
    account="ann",
    name="app",
    scopes=("chat",),
    allowed_models=None,
    rpm=None,
    tpm=None,
    max_concurrent=None,
    limit_day_nanos=None,
    limit_month_nanos=None,
    limit_total_nanos=None,
    metadata=None,
    disabled=False,
    expires_at_micros=None,
    created_at_micros=0,
    created_by="admin",
    updated_at_micros=0,
)


def _stored(new: NewSecret, number: int = 1, ends_at_micros: int | None = None) -> KeySecret:
    return KeySecret(new.prefix, "id", number, new.digest, new.last_four, 0, ends_at_micros)


def test_a_key_is_random_recognised_and_read_back() -> None:
    made = [make_secret() for _ in range(100)]
    assert len({each.text for each in made}) == len({each.prefix for each in made}) == 100
    for each in made:
        assert re.fullmatch(r"sk-[0-9A-Za-z]{8}-[0-9A-Za-z]{40}", each.text)
        assert presented(each.text) == PresentedKey(each.prefix, each.digest)


def test_a_mistyped_key_is_told_by_its_checksum() -> None:
    text = make_secret().text
    for position in range(3, len(text)):
        if text[position] != "-":
            other = "a" if text[position] != "a" else "b"
            assert presented(text[:position] + other + text[position + 1 :]) is None
    for wrong in ("", "sk-", text[:-1], f"{text}a", f" {text}", f"{text}\n", text.upper()):
        assert presented(wrong) is None


def test_a_key_shows_itself_in_no_log() -> None:
    made = make_secret()
    assert made.text not in mask_secrets(f"path=/keys/{made.text}")
    secret = made.text[len("sk-12345678-") :]
    for shown in (repr(made), repr(presented(made.text)), repr(_stored(made))):
        assert secret not in shown
        assert repr(made.digest) not in shown


@pytest.mark.parametrize(
    ("changes", "ends_in_micros", "reason"),
    [
        ({}, None, None),
        ({}, 1, None),
        ({}, 0, "rotated"),
        ({"disabled": True}, None, "disabled"),
        ({"expires_at_micros": _NOW + 1}, None, None),
        ({"expires_at_micros": _NOW}, None, "expired"),
        ({"disabled": True, "expires_at_micros": _NOW}, None, "disabled"),
        ({"revoked_at_micros": 1, "disabled": True}, 0, "revoked"),
        ({"disabled": True}, 0, "rotated"),
    ],
)
def test_what_is_final_is_told_first(
    changes: dict[str, int | bool], ends_in_micros: int | None, reason: str | None
) -> None:
    made = make_secret()
    ends = None if ends_in_micros is None else _NOW + ends_in_micros
    key = msgspec.structs.replace(_KEY, **changes)
    secret = _stored(made, ends_at_micros=ends)
    assert refusal(key, secret, made, _NOW) == reason


def test_why_is_told_only_to_who_has_the_key() -> None:
    made, other = make_secret(), make_secret()
    revoked = msgspec.structs.replace(_KEY, revoked_at_micros=1)
    guessed = PresentedKey(made.prefix, other.digest)
    for key in (_KEY, revoked):
        assert refusal(key, _stored(made), guessed, _NOW) == "unknown"
    assert refusal(None, None, made, _NOW) == "unknown"


def test_no_rotation_makes_an_old_secret_live_longer() -> None:
    first, second, third = (make_secret() for _ in range(3))
    current, ended = rotated([_stored(first)], second, grace_micros=10, now_micros=_NOW)
    assert [(old.prefix, old.ends_at_micros) for old in ended] == [(first.prefix, _NOW + 10)]
    assert (current.number, current.ends_at_micros) == (2, None)

    secrets = [current, *ended]
    _current, longer = rotated(secrets, third, grace_micros=99, now_micros=_NOW + 1)
    assert [old.prefix for old in longer] == [second.prefix]
    _current, shorter = rotated(secrets, third, grace_micros=0, now_micros=_NOW + 1)
    assert {old.prefix for old in shorter} == {first.prefix, second.prefix}
    assert {old.ends_at_micros for old in shorter} == {_NOW + 1}


def test_an_answer_is_gone_by_no_longer_than_it_is_known_to_hold() -> None:
    ends = (None, 3600 * MICROS_PER_SECOND, 4 * MICROS_PER_SECOND - 1, 1, -5)
    found = [cache_seconds(None if end is None else _NOW + end, _NOW) for end in ends]
    assert found == [CACHE_SECONDS, CACHE_SECONDS, 3, 0, 0]


def test_a_change_tells_only_what_is_different() -> None:
    wanted = {"rpm": 5, "name": "app", "metadata": '{"a":1}', "expires_at_micros": 0}
    key, changes = changed(_KEY, wanted, _NOW)
    assert (key.rpm, key.updated_at_micros) == (5, _NOW)
    assert msgspec.json.decode(msgspec.json.encode(changes)) == {
        "rpm": {"from": None, "to": 5},
        "metadata": {"from": None, "to": {"a": 1}},
        "expires_at": {"from": None, "to": "1970-01-01T00:00:00.000000Z"},
    }
    assert changed(key, wanted, _NOW + 1) == (key, {})
