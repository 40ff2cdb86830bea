"""What is sent of an event and where it may be sent: over real sockets, and by the settings."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from credits.client import SERVICE_KEY
from credits.webhook_receiver import SECRET, receiving
from credits_service.db.webhook_outbox import WaitingEvent
from credits_service.settings import CreditsSettings
from credits_service.webhooks.retries import (
    ATTEMPTS_MAX,
    PAUSE_SECONDS_MAX,
    pause_seconds,
    read_retry_after,
)
from credits_service.webhooks.sender import Attempt, Outcome, Sender
from credits_service.webhooks.signature import BadSecretError, parse_secret, sign
from credits_service.webhooks.target import webhook_target

EVENT = WaitingEvent("evt_1", "balance.low", "ann", '{"user_id":"ann"}', 1_000_000, 0)
DAY_SECONDS = 86_400


async def attempt(
    url: str,
    *,
    allow_private: bool = True,
    addresses: Sequence[str] = (),
    timeout_seconds: float = 30,
) -> Attempt:
    async def look_up(_host: str) -> Sequence[str]:
        return addresses

    target = webhook_target(url, SECRET, allow_private=allow_private)
    assert target is not None
    sender = Sender(target, look_up=look_up, timeout_seconds=timeout_seconds)
    try:
        return await sender.send(EVENT)
    finally:
        await sender.close()


async def test_an_independent_implementation_verifies_what_is_sent() -> None:
    async with receiving() as receiver:
        assert await attempt(receiver.url) == Attempt(Outcome.DELIVERED, 204)

    (received,) = receiver.received
    assert received.verified() == {
        "type": "balance.low",
        "timestamp": "1970-01-01T00:00:01.000000Z",
        "data": {"user_id": "ann"},
    }
    assert received.id == EVENT.id
    assert received.headers["content-type"] == "application/json"


async def test_a_changed_body_or_another_secret_is_noticed() -> None:
    async with receiving() as receiver:
        await attempt(receiver.url)

    (received,) = receiver.received
    with pytest.raises(WebhookVerificationError):
        received._replace(body=received.body.replace(b"ann", b"bob")).verified()
    with pytest.raises(WebhookVerificationError):
        received.verified(f"whsec_{secrets.token_hex(24)}")


async def test_the_check_in_the_guide_accepts_what_is_sent_and_nothing_else() -> None:
    guide = (Path(__file__).parents[2] / "DEPLOYMENT_GUIDE.md").read_text()
    (shown,) = re.findall(r"```python\n(import base64.*?)```", guide, re.DOTALL)
    written: dict[str, Any] = {}
    exec(shown, written)  # noqa: S102 - the guide's own text
    async with receiving() as receiver:
        await attempt(receiver.url)
    (received,) = receiver.received

    written["verify"](SECRET, received.headers, received.body)

    with pytest.raises(ValueError, match="wrong signature"):
        written["verify"](SECRET, received.headers, received.body + b" ")
    with pytest.raises(ValueError, match="wrong signature"):
        written["verify"](f"whsec_{secrets.token_hex(24)}", received.headers, received.body)
    old = {**received.headers, "webhook-timestamp": "1"}
    with pytest.raises(ValueError, match="too old"):
        written["verify"](SECRET, old, received.body)


def test_the_signature_is_that_of_the_specification_s_test_vector() -> None:
    message_id, seconds, body = (
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )

    signature = sign(parse_secret(SECRET), message_id, seconds, body)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    moment = datetime.fromtimestamp(seconds, UTC)
    assert signature == Webhook(SECRET).sign(message_id, moment, body.decode())


@pytest.mark.parametrize(
    "text", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_QQ==", "whsec_" + "A" * 88]
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadSecretError) as refusal:
        parse_secret(text)

    assert "MfKQ" not in str(refusal.value)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
async def test_other_answers_are_refusals_and_redirects_are_not_followed(status: int) -> None:
    async with receiving() as receiver:
        head = f"HTTP/1.1 {status} Oh\r\nlocation: {receiver.url}\r\nretry-after: 7\r\n\r\n"
        receiver.answer = lambda _number: head.encode()
        assert await attempt(receiver.url) == Attempt(Outcome.REFUSED, status, 7)

    assert len(receiver.received) == 1


async def test_410_is_gone() -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _number: 410
        assert await attempt(receiver.url) == Attempt(Outcome.GONE, 410)


async def test_a_body_without_end_is_not_read() -> None:
    async with receiving() as receiver:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n"
        receiver.answer = lambda _number: head + b"x" * 4_000_000
        assert (await attempt(receiver.url)).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 99_999]
)
async def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _number: answer
        assert (await attempt(receiver.url)).outcome is Outcome.UNREACHABLE


async def test_silence_is_a_time_out() -> None:
    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert (await attempt(url, timeout_seconds=0.05)).outcome is Outcome.TIMEOUT
    ended.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0"),  # noqa: S104 - refused
        *("169.254.169.254", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "fe80::1%1"),
    ],
)
async def test_names_that_lead_to_addresses_that_are_not_public_are_refused(address: str) -> None:
    url = "https://hooks.example/"

    assert (await attempt(url, allow_private=False, addresses=[address])).outcome is (
        Outcome.ADDRESS_REFUSED
    )
    both = ["8.8.8.8", address]
    assert (await attempt(url, allow_private=False, addresses=both)).outcome is (
        Outcome.ADDRESS_REFUSED
    )


async def test_a_name_without_addresses_is_unreachable() -> None:
    assert (await attempt("https://hooks.example/")).outcome is Outcome.UNREACHABLE


def test_the_pauses_of_all_attempts_add_up_to_three_days() -> None:
    pauses = [pause_seconds(attempts, 0.5) for attempts in range(1, ATTEMPTS_MAX)]

    assert pauses == sorted(pauses)
    assert 2.5 * DAY_SECONDS < sum(pauses) < 3.5 * DAY_SECONDS
    assert pause_seconds(1, 0) < pause_seconds(1, 1)


def test_a_receiver_can_ask_for_a_longer_pause_within_bounds() -> None:
    assert pause_seconds(1, 0.5, 3600) == 3600
    assert pause_seconds(1, 0.5, 0) == pause_seconds(1, 0.5)
    assert pause_seconds(1, 0.5, 1e12) == PAUSE_SECONDS_MAX
    assert read_retry_after("120", 0) == 120
    assert read_retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 60) == 60
    assert read_retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 600) == 0
    for nonsense in (None, "", "-1", "soon", "9" * 5000, "Thu, 99 Jan 1970 00:02:00 GMT"):
        assert read_retry_after(nonsense, 0) is None


GOOD = {"webhook_url": "https://hooks.example/x", "webhook_secret": SECRET}


def settings_with(**values: object) -> CreditsSettings:
    return CreditsSettings(_env_file=None, api_keys=SecretStr(SERVICE_KEY), **values)  # type: ignore[arg-type]  # text, as from a file


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"webhook_url": GOOD["webhook_url"]}, "needed together"),
        ({"webhook_secret": SECRET}, "needed together"),
        (GOOD | {"webhook_secret": "whsec_c2VjcmV0"}, "WEBHOOK_SECRET"),
        (GOOD | {"webhook_url": "http://hooks.example/"}, "http://"),
        (GOOD | {"webhook_url": "ftp://hooks.example/"}, "WEBHOOK_URL is not a URL"),
        (GOOD | {"webhook_url": "https://hooks.example:99999/"}, "not a valid URL"),
        (GOOD | {"webhook_url": "https://me:pw@hooks.example/"}, "a password in it"),
        (GOOD | {"webhook_url": "https://127.0.0.1/"}, "not public"),
        (GOOD | {"webhook_url": "https://[::1]/"}, "not public"),
        ({"low_balance_usd": "1"}, "needs WEBHOOK_URL"),
        (GOOD | {"low_balance_usd": "much"}, "LOW_BALANCE_USD"),
        (GOOD | {"low_balance_usd": "0"}, "LOW_BALANCE_USD"),
        (GOOD | {"low_balance_usd": "1_000"}, "LOW_BALANCE_USD must be a decimal number"),
    ],
)
def test_settings_that_can_t_work_are_refused_without_showing_them(
    values: dict[str, str], said: str
) -> None:
    with pytest.raises(ValidationError, match=said) as refusal:
        settings_with(**values)

    assert "c2VjcmV0" not in str(refusal.value)
    assert "me:pw" not in str(refusal.value)


def test_settings_that_can_work_are_accepted_and_never_shown() -> None:
    settings = settings_with(**GOOD, low_balance_usd="2.50")
    rules, target = settings.event_rules(), settings.webhook_target()

    assert rules is not None
    assert rules.default_low_balance_nanos == 2_500_000_000
    assert target is not None
    shown = f"{settings!r} {target!r}"
    assert SECRET not in shown
    assert str(parse_secret(SECRET)) not in shown
    assert settings_with().event_rules() is None
