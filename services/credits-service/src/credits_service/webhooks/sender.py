"""One attempt at a delivery, over HTTP. The receiver is trusted with nothing but the event."""

import time
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from credits_service.core.moments import rfc3339
from credits_service.db.webhook_outbox import WaitingEvent
from credits_service.webhooks.retries import read_retry_after
from credits_service.webhooks.signature import sign
from credits_service.webhooks.target import WebhookTarget
from service_kit.checked_connector import LookUp, SystemLookUp, checked_connector
from service_kit.public_addresses import AddressRefusedError

TIMEOUT_SECONDS = 10.0
_SUCCESS = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


class Outcome(StrEnum):
    """What came of an attempt; the names are labels of a metric."""

    DELIVERED = "delivered"
    GONE = "gone"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    ADDRESS_REFUSED = "address_refused"


class Attempt(NamedTuple):
    """An attempt and what the receiver said.

    Attributes:
        status: HTTP status, if there was an answer.
        retry_after_seconds: how long it asks to be left alone.
    """

    outcome: Outcome
    status: int | None = None
    retry_after_seconds: float | None = None


class Sender:
    """Posts events to the target. Must be made where an event loop runs.

    Args:
        target: where to.
        timeout_seconds: the longest that an attempt may take.
        look_up: returns all addresses of a name; the system's own way if none is given.
        wall_clock: seconds since 1970, as receivers reckon.
    """

    def __init__(
        self,
        target: WebhookTarget,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        look_up: LookUp | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self._wall_clock = wall_clock
        self.timeout_seconds = timeout_seconds
        # As it was written: a signature in it must not be spelt another way.
        self._url = URL(target.url, encoded=True)
        self._session = aiohttp.ClientSession(
            connector=checked_connector(target.rules, look_up or SystemLookUp()),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=None),
            trust_env=False,
            auto_decompress=False,
        )

    async def send(self, event: WaitingEvent) -> Attempt:
        """Make one attempt; whatever the receiver does, this returns."""
        body = body_of(event)
        now = self._wall_clock()
        headers = {
            "content-type": "application/json",
            "user-agent": "prepaid-ai-gateway",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": sign(self._target.key, event.id, int(now), body),
        }
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                # The status says it all. A body is not read: it may have no end.
                response.close()
                return _judge(response.status, response.headers.get("retry-after"), now)
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefusedError)
            return Attempt(Outcome.ADDRESS_REFUSED if refused else Outcome.UNREACHABLE)
        except TimeoutError:
            return Attempt(Outcome.TIMEOUT)
        except (aiohttp.ClientError, OSError, ValueError):
            return Attempt(Outcome.UNREACHABLE)

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()


def body_of(event: WaitingEvent) -> bytes:
    """Write what is sent of an event: the same bytes in each attempt."""
    return msgspec.json.encode(
        {
            "type": event.kind,
            "timestamp": rfc3339(event.created_at_micros),
            "data": msgspec.Raw(event.payload.encode()),
        }
    )


def _judge(status: int, retry_after: str | None, now_seconds: float) -> Attempt:
    if status in _SUCCESS:
        return Attempt(Outcome.DELIVERED, status)
    if status == HTTPStatus.GONE:
        return Attempt(Outcome.GONE, status)
    return Attempt(Outcome.REFUSED, status, read_retry_after(retry_after, now_seconds))
