"""Whatever bytes come, HTTP or not: well-formed answers or none, and the services live on.

One process of each service, so that nobody else could have answered. `RAW_EXAMPLES=5000` for more
accidents than the few of a usual run.
"""

import json
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.document_fuzz import fuzzing
from support.odd_requests import ANSWERED, MAX_BODY_BYTES, REFUSED, SERVED, Odd, Paid
from support.raw_http_fuzz import (
    LAST,
    exchange,
    exchange_all,
    mangled,
    posted,
    prefixes,
    request,
    reset_all,
)
from support.raw_target import Target
from support.stack import ADMIN_KEY, CLIENT_KEY, MODEL, SERVICE_KEY, Stack, running_stack

RAW_EXAMPLES = int(os.environ.get("RAW_EXAMPLES", "75"))
# What never ends is waited for once for so many, not for each.
AT_A_TIME = 25
SECONDS_PER_EXAMPLE = 1
pytestmark = pytest.mark.timeout(180 + SECONDS_PER_EXAMPLE * RAW_EXAMPLES)
LIMITS = {
    "WORKERS": "1",
    "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    "REQUEST_HEADER_TIMEOUT_SECONDS": "0.5",
    "REQUEST_BODY_TIMEOUT_SECONDS": "0.5",
}
RESETS = 60


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.fixture(scope="module")
def raw_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system with short patience, for these tests alone."""
    folder = tmp_path_factory.mktemp("raw")
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, url, LIMITS, LIMITS) as stack:
        yield stack
        stack.assert_ledger_is_sound()


@pytest.fixture(scope="module")
def targets(raw_stack: Stack) -> Iterator[Mapping[str, Target]]:
    """Both services; nothing that is done to them may leave anything behind."""
    user = raw_stack.account("1000")
    said = [{"role": "user", "content": "Hi"}]
    chat = encoded(model=MODEL, messages=said, max_tokens=5, user=user)
    bill = encoded(user_id=user, amount="0.000001")
    found = {
        "proxy": Target(raw_stack.proxy, Paid("/v1/chat/completions", CLIENT_KEY, chat)),
        "credits": Target(raw_stack.ledger, Paid("/api/v1/bill", SERVICE_KEY, bill)),
    }
    yield found
    for target in found.values():
        target.assert_lives()
        target.assert_unharmed()


@pytest.fixture(params=["proxy", "credits"])
def target(request: pytest.FixtureRequest, targets: Mapping[str, Target]) -> Iterator[Target]:
    found = targets[request.param]
    yield found
    found.assert_lives()


def test_what_has_no_sure_end_is_refused_and_nothing_behind_it_is_served(target: Target) -> None:
    messages = [odd(target.paid) for odd in REFUSED.values()]

    streams = exchange_all(target.url, messages)

    for name, message, stream in zip(REFUSED, messages, streams, strict=True):
        answers = target.assert_sound(message, stream)
        assert [answer.status for answer in answers] == [400], (name, answers)
        assert answers[0].headers["connection"] == "close"


def test_what_is_unusual_and_has_one_meaning_is_served(target: Target) -> None:
    messages = [odd(target.paid) for odd in SERVED.values()]

    streams = exchange_all(target.url, messages)

    for name, message, stream in zip(SERVED, messages, streams, strict=True):
        answers = target.assert_sound(message, stream)
        assert [answer.status for answer in answers] == [200, 200], (name, answers)


@pytest.mark.parametrize(("status", "odd"), ANSWERED.values(), ids=ANSWERED)
def test_what_is_too_much_too_late_or_nowhere_is_told_so(
    target: Target, status: int, odd: Odd
) -> None:
    message = odd(target.paid)

    answers = target.assert_sound(message, exchange_all(target.url, [message])[0])

    # A service that has said what it had to may have been cut off before it was heard.
    assert [answer.status for answer in answers] in ([], [status], [status, 200])


def test_a_request_cut_off_at_any_byte_is_not_served(target: Target) -> None:
    cut = list(prefixes(target.paid.written()))
    for start in range(0, len(cut), AT_A_TIME):
        messages = cut[start : start + AT_A_TIME]
        for message, stream in zip(
            messages, exchange_all(target.url, messages, then=b""), strict=True
        ):
            assert target.assert_sound(message, stream, whole=False) == [], message


def test_connections_that_break_off_at_any_byte_do_no_harm(target: Target) -> None:
    chance = random.Random(7)  # noqa: S311 - which bytes is no secret
    whole = target.paid.written() + LAST
    reset_all(target.url, [whole[: chance.randrange(len(whole) + 1)] for _ in range(RESETS)])

    target.assert_lives()


def test_a_body_that_is_waited_for_is_asked_for(target: Target) -> None:
    message = target.paid.written(target.paid.length, "Expect: 100-continue")

    answers = target.assert_sound(message, exchange_all(target.url, [message])[0])

    assert [answer.status for answer in answers][-2:] == [200, 200]
    assert {answer.status for answer in answers} <= {100, 200}


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.3, HTTP/1.1"])
def test_nobody_changes_the_protocol(target: Target, protocol: str) -> None:
    message = request("GET /health", f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings")

    answers = target.assert_sound(message, exchange_all(target.url, [message])[0])

    # What comes behind could be of the other protocol: it is not read as HTTP.
    assert [answer.status for answer in answers] == [200]


def test_nonsense_behind_a_request_is_answered_behind_it(target: Target) -> None:
    paid = target.paid.written()
    messages = [
        paid + b"nonsense\r\n\r\n",
        paid + target.paid.written("Content-Length: -1"),
        paid + target.paid.written("Transfer-Encoding: chunked", body=b"-5\r\n"),
        paid + target.paid.written("Content-Length: 1000"),
        paid + paid + b"\x00",
    ]

    streams = exchange_all(target.url, messages)

    found = [
        [answer.status for answer in target.assert_sound(message, stream)]
        for message, stream in zip(messages, streams, strict=True)
    ]
    assert found == [[200, 400], [200, 400], [200, 400], [200, 408], [200, 200, 400]]


def test_each_of_several_requests_on_a_connection_needs_its_own_key(raw_stack: Stack) -> None:
    user = raw_stack.account("1")
    topup = encoded(user_id=user, amount="5")
    line = "POST /api/v1/topup"
    keyless = request(line, "Idempotency-Key: b", f"Content-Length: {len(topup)}", body=topup)
    stream = b"".join(
        (
            posted("/api/v1/topup", ADMIN_KEY, topup, "Idempotency-Key: a"),
            keyless,
            posted("/api/v1/topup", SERVICE_KEY, topup, "Idempotency-Key: c"),
            posted("/api/v1/topup", ADMIN_KEY, topup, "Idempotency-Key: d"),
        )
    )

    answers = exchange(raw_stack.ledger.url, stream)

    assert [answer.status for answer in answers] == [201, 401, 403, 201, 200]
    assert raw_stack.balance(user)["balance"] == 11


@pytest.mark.parametrize("odd", REFUSED.values(), ids=REFUSED)
def test_a_request_hidden_behind_one_without_a_sure_end_is_not_served(
    raw_stack: Stack, odd: Odd
) -> None:
    user = raw_stack.account("1")
    hidden = posted(
        "/api/v1/topup", ADMIN_KEY, encoded(user_id=user, amount="5"), "Idempotency-Key: hidden"
    )
    bill = Paid("/api/v1/bill", SERVICE_KEY, encoded(user_id=user, amount="0.5"))

    answers = exchange(raw_stack.ledger.url, odd(bill), then=hidden + LAST)

    assert [answer.status for answer in answers] == [400]
    assert raw_stack.balance(user)["balance"] == 1


def test_proper_requests_after_accidents_get_sound_answers(target: Target) -> None:
    proper = (
        target.paid.written(),
        target.paid.written("Transfer-Encoding: chunked", body=target.paid.chunks()),
        request("GET /health"),
        request("GET /v1/models?x=1", f"Authorization: Bearer {CLIENT_KEY}"),
        request("GET /api/v1/accounts?limit=1", f"Authorization: Bearer {SERVICE_KEY}"),
    )

    @fuzzing(-(-RAW_EXAMPLES // AT_A_TIME))
    @given(messages=st.lists(mangled(proper), min_size=AT_A_TIME, max_size=AT_A_TIME))
    def run(messages: list[bytes]) -> None:
        streams = exchange_all(target.url, messages)
        for message, stream in zip(messages, streams, strict=True):
            target.assert_sound(message, stream)
        target.assert_lives()

    run()
