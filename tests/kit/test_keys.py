"""A key setting is taken only if every key in it could really keep somebody out."""

import secrets

import pytest

from service_kit.keys import BadKeySettingError, KeyRing, NamedKey, Principal, parse_keys

GOOD = "8f1d0c2b7a6e5934d0c1"
OTHER = "sk-5b2f8c90e1a7d364"


def test_keys_are_split_at_commas_and_may_have_names() -> None:
    keys = parse_keys(f" backend:{GOOD} , batch : {OTHER},", setting="API_KEYS")

    assert keys == [NamedKey("backend", GOOD), NamedKey("batch", OTHER)]


def test_a_key_without_a_name_gets_one_that_tells_nothing_of_it() -> None:
    (key,) = parse_keys(GOOD, setting="API_KEYS")

    assert key.key == GOOD
    assert key.name.startswith("key-")
    assert not any(key.name[i : i + 6] in GOOD for i in range(len(key.name) - 5))


def test_an_unnamed_keys_name_is_always_the_same() -> None:
    assert parse_keys(GOOD, setting="A") == parse_keys(GOOD, setting="B")


def test_an_empty_setting_has_no_keys() -> None:
    assert parse_keys(" , ,", setting="API_KEYS") == []


@pytest.mark.parametrize(
    "placeholder",
    [
        "change-me-please-now",
        "CHANGEME1234567890ab",
        "your-api-key-goes-here",
        "sk-your_key_0a1b2c3d4e",
        "replace-this-with-a-key",
        "placeholder-0a1b2c3d4e",
        "an-example-key-0a1b2c",
        "insert-key-here-0a1b2c",
        "<generate-a-long-key>",
        "dummy-key-0a1b2c3d4e5f",
        "sk-0a1b2c3d4e5f...",
        "aaaaaaaaaaaaaaaaaaaa",
        "sk-xxxxxxxxxxxxxxxxxxxx",
        "0000000000000000",
        "abababababababababab",
        "1234567890123456",
        "sk-1234567890abcdef",
    ],
)
def test_placeholders_are_refused(placeholder: str) -> None:
    with pytest.raises(BadKeySettingError, match="API_KEYS, key number 2 is a placeholder"):
        parse_keys(f"{GOOD},{placeholder}", setting="API_KEYS")


def test_random_keys_are_never_taken_for_placeholders() -> None:
    for _ in range(2000):
        key = secrets.token_hex(24)

        assert parse_keys(f"x:{key}", setting="API_KEYS") == [NamedKey("x", key)]


def test_a_key_of_16_characters_is_long_enough_and_one_of_15_is_not() -> None:
    assert parse_keys("a:0123a456b789cdef", setting="API_KEYS")

    with pytest.raises(BadKeySettingError, match="shorter than 16"):
        parse_keys("a:0123a456b789cde", setting="API_KEYS")


@pytest.mark.parametrize("key", ["0123a456b789 cdef", "0123a456b789cdé0", "0123a456\tb789cdef"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(BadKeySettingError, match="header can't carry"):
        parse_keys(f"a:{key}", setting="API_KEYS")


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 65, "schlüssel"])
def test_a_name_that_no_label_could_be_is_refused(name: str) -> None:
    with pytest.raises(BadKeySettingError, match="a name has 1 to 64"):
        parse_keys(f"{name}:{GOOD}", setting="API_KEYS")


def test_a_name_has_two_keys_while_its_key_is_rotated() -> None:
    keys = parse_keys(f"a:{GOOD},a:{OTHER}", setting="API_KEYS")

    ring = KeyRing((key, frozenset()) for key in keys)
    assert ring.find(GOOD) == ring.find(OTHER) == Principal("a")


def test_a_name_has_no_more_keys_than_a_rotation_needs() -> None:
    with pytest.raises(BadKeySettingError, match="a name of its own"):
        parse_keys(f"a:{GOOD},a:{OTHER},a:{GOOD[::-1]}", setting="API_KEYS")


def test_a_key_belongs_to_one_name() -> None:
    with pytest.raises(BadKeySettingError, match="the same key is given twice"):
        parse_keys(f"a:{GOOD},b:{GOOD}", setting="API_KEYS")


@pytest.mark.parametrize("raw", ["change-me-please-now", "hunter2", f"a b:{GOOD}"])
def test_no_message_shows_a_key(raw: str) -> None:
    with pytest.raises(BadKeySettingError) as caught:
        parse_keys(raw, setting="API_KEYS")

    assert raw not in str(caught.value)
    assert GOOD not in str(caught.value)


def test_a_ring_finds_whose_key_it_is_and_what_it_may_do() -> None:
    ring = KeyRing(
        [(NamedKey("app", GOOD), frozenset({"spend"})), (NamedKey("op", OTHER), frozenset({"*"}))]
    )

    found = ring.find(OTHER)

    assert len(ring) == 2
    assert found == Principal("op", frozenset({"*"}))


@pytest.mark.parametrize("presented", ["", "x", GOOD.upper(), GOOD[:-1], f"{GOOD} ", "\udcff"])
def test_a_ring_knows_no_other_key(presented: str) -> None:
    assert KeyRing([(NamedKey("app", GOOD), frozenset())]).find(presented) is None


def test_every_key_is_compared_whichever_one_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the answer must not tell at which place a key stands."""
    compared: list[bool] = []

    def compare_digest(presented: bytes, accepted: bytes) -> bool:
        compared.append(presented == accepted)
        return compared[-1]

    ring = KeyRing(
        [(NamedKey("first", GOOD), frozenset()), (NamedKey("second", OTHER), frozenset())]
    )
    monkeypatch.setattr("service_kit.keys.hmac.compare_digest", compare_digest)

    ring.find(GOOD)

    assert compared == [True, False]
