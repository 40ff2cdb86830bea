"""What is wrong with a body is said with the path of the field, never with a stack."""

from typing import Annotated, Any

import msgspec
import pytest

from service_kit.body import InvalidBodyError, decode_body
from support.kit_app import AUTHORIZED, StartApp


class Part(msgspec.Struct):
    text: str


class Message(msgspec.Struct):
    role: str
    parts: list[Part] = []


class Chat(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 1
    extra: dict[str, int] = {}


CHAT = msgspec.json.Decoder(Chat)
FINE = {"model": "m", "messages": [{"role": "user"}]}


def _refused(body: bytes) -> InvalidBodyError:
    with pytest.raises(InvalidBodyError) as caught:
        decode_body(body, CHAT)
    return caught.value


def test_a_good_body_is_decoded() -> None:
    assert decode_body(msgspec.json.encode(FINE), CHAT) == Chat("m", [Message("user")])


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"model": 1}, "model", "invalid_type"),
        ({"model": None}, "model", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_type"),
        ({"messages": [{"role": "user"}, {"role": 1}]}, "messages[1].role", "invalid_type"),
        (
            {"messages": [{"role": "user", "parts": [{"text": "a"}, {"text": []}]}]},
            "messages[0].parts[1].text",
            "invalid_type",
        ),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"extra": {"a": "b"}}, "extra[...]", "invalid_type"),
        ({"messages": [{"role": "user", "parts": [{}]}]}, "messages[0].parts[0].text", None),
        ({"colour": 1}, "colour", "unknown_parameter"),
    ],
)
def test_the_path_of_the_field_is_named(
    change: dict[str, Any], field: str, code: str | None
) -> None:
    error = _refused(msgspec.json.encode({**FINE, **change}))

    assert error.status == 400
    assert error.field == field
    assert f"'{field}'" in error.message
    assert error.code == (code or "missing_required_parameter")


def test_a_missing_field_is_named() -> None:
    error = _refused(b'{"messages":[{"role":"user"}]}')

    assert error.field == "model"
    assert error.code == "missing_required_parameter"
    assert error.message == "Missing required parameter: 'model'."


def test_a_body_that_is_no_object_has_no_field() -> None:
    error = _refused(b"[]")

    assert error.field is None
    assert error.code == "invalid_type"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'model':'m'}",
        b'{"model":"m",}',
        b'{"model":"m"} trailing',
        b'{"model":NaN}',
        b'{"model":"\xff\xfe"}',
        b'{"\xc3\x28":1}',
        b'{"model":"\\ud800"}',
        b'{"model":"m","messages":' + b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_json_is_a_client_error(body: bytes) -> None:
    with pytest.raises(InvalidBodyError) as caught:
        decode_body(body, msgspec.json.Decoder())

    assert caught.value.code == "invalid_json"
    assert caught.value.field is None


def test_deep_nesting_inside_a_typed_body_is_a_client_error() -> None:
    error = _refused(b'{"model":"m","messages":[],"unknown":' + b"[" * 100_000)

    assert error.status == 400


def test_a_route_answers_in_the_services_own_form(start_app: StartApp) -> None:
    client = start_app()

    malformed = client.post("/v1/echo", headers=AUTHORIZED, content=b"{")
    wrong_type = client.post("/v1/echo", headers=AUTHORIZED, content=b"[1]")

    assert (malformed.status_code, malformed.json()["code"]) == (400, "invalid_json")
    assert (wrong_type.status_code, wrong_type.json()["code"]) == (400, "invalid_type")
