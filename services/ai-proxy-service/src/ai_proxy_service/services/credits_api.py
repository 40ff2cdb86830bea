"""The credits service's HTTP API as the proxy uses it: one call, one answer or one error.

What its problem documents mean is decided here, by their `code`, never by the status alone:
an ingress in front of the service has statuses of its own.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from ai_proxy_service.core.errors import (
    AccountClosedError,
    BillingUnavailableError,
    InsufficientCreditError,
    spend_limit_text,
)
from ai_proxy_service.core.money import nanos_of_usd
from service_kit.logging import get_logger
from service_kit.request_id import HEADER as REQUEST_ID_HEADER
from service_kit.request_id import current_request_id
from service_kit.spans import current_span
from service_kit.tracing import client_span

_log = get_logger(__name__)

Readiness = Literal["ready", "not ready", "unreachable"]

CALL_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 1.0
# In a burst calls wait here for a connection, which costs the ledger nothing.
QUEUE_SECONDS_MAX = 8.0
RETRY_PAUSE_SECONDS = 0.1
_NAMED_SEGMENTS = 3
_PROBLEM = "application/problem+json"
_REFUSED_FOR_GOOD = frozenset(
    {"account_not_found", "hold_ended", "hold_not_found", "idempotency_key_reused"}
)


class LedgerRefusalError(Exception):
    """The ledger refused for a reason that asking again will not change.

    Attributes:
        code: the problem's code.
        hold_status: how the hold ended, if that is the reason.
    """

    def __init__(self, status: int, code: str, detail: str, hold_status: str | None) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.code = code
        self.hold_status = hold_status


class CreditsApi:
    """Calls the credits service; every change carries an idempotency key or may be repeated."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._base_url = str(client.base_url).rstrip("/")
        self._headers = {**client.headers, "content-type": "application/json"}

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        key: str | None = None,
        tries: int = 2,
    ) -> dict[str, Any]:
        """Make a call, again if its answer was lost, and return the decoded answer.

        Raises:
            InsufficientCreditError: 402.
            LedgerRefusalError: refused for good.
            BillingUnavailableError: anything that is not certain.
        """
        content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        while True:
            tries -= 1
            try:
                return self._read(await self._send(method, path, content, key), path)
            except BillingUnavailableError:
                if not tries:
                    raise
            await asyncio.sleep(RETRY_PAUSE_SECONDS)

    async def _send(
        self, method: str, path: str, content: bytes | None, key: str | None
    ) -> httpx.Response:
        # What comes after the resource's name is an id.
        with client_span(method, path, segments=_NAMED_SEGMENTS) as call:
            response = await self._request(method, path, content, key)
            call.answered(response.status_code)
            return response

    async def _request(
        self, method: str, path: str, content: bytes | None, key: str | None
    ) -> httpx.Response:
        headers = {**self._headers, **current_span().headers()}
        if key is not None:
            headers["idempotency-key"] = key
        request_id = current_request_id()
        if request_id:
            headers[REQUEST_ID_HEADER] = request_id
        try:
            # The client would put the same together anew, for a quarter of what a call costs.
            url = _url(self._base_url, path)
            request = httpx.Request(method, url, content=content, headers=headers)
            return await self._client.send(request)
        except (httpx.HTTPError, RuntimeError) as error:
            # RuntimeError is what a client says that the end of the process has closed.
            _log.warning(
                "credits_unreachable", method=method, path=path, error=type(error).__name__
            )
            raise BillingUnavailableError from error

    def _read(self, response: httpx.Response, path: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = {}
        if response.is_success and answer:
            return answer
        if response.headers.get("content-type", "").startswith(_PROBLEM):
            _raise_refusal(response.status_code, answer)
        _log.error(
            "credits_call_failed",
            path=path,
            status=response.status_code,
            code=answer.get("code"),
            # Not the body: what stands between may repeat the request, with its key.
            content_type=response.headers.get("content-type"),
            content_bytes=len(response.content),
        )
        raise BillingUnavailableError

    async def readiness(self, timeout_seconds: float) -> Readiness:
        """Ask whether the service can serve."""
        try:
            answer = await self._client.get("/ready", timeout=timeout_seconds)
        except httpx.HTTPError:
            return "unreachable"
        return "ready" if answer.status_code == HTTPStatus.OK else "not ready"

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


@lru_cache(maxsize=1024)
def _url(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(base_url + path)


def connect(base_url: str, key: str) -> httpx.AsyncClient:
    """Open the pool of connections to the credits service."""
    return httpx.AsyncClient(
        base_url=base_url.rstrip("/"),
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(
            CALL_SECONDS_MAX, connect=CONNECT_SECONDS_MAX, pool=QUEUE_SECONDS_MAX
        ),
        # Under httpx's interface, aiohttp's transport costs a third of httpx's own.
        transport=AiohttpTransport(),
        # A proxy that the environment names for the outside world is not for the ledger.
        trust_env=False,
    )


def answer_of(status: int, body: dict[str, Any], *, path: str) -> dict[str, Any]:
    """Return one answer of several that came together, or raise what it means.

    Args:
        status: as its own endpoint would have answered.
        body: that answer, or a problem.
        path: of that endpoint.

    Raises:
        InsufficientCreditError, AccountClosedError, LedgerRefusalError, BillingUnavailableError:
            as `CreditsApi.call`.
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and body:
        return body
    _raise_refusal(status, body)
    _log.error("credits_call_failed", path=path, status=status, code=body.get("code"))
    raise BillingUnavailableError


def _raise_refusal(status: int, problem: Mapping[str, Any]) -> None:
    """Raise what a problem means; return if only asking again can tell."""
    code = str(problem.get("code"))
    if code in {"insufficient_credit", "spend_limit_reached"}:
        raise _insufficient(problem)
    if code in {"account_frozen", "account_closed"}:
        raise AccountClosedError(code)
    if code in _REFUSED_FOR_GOOD or (status == HTTPStatus.UNPROCESSABLE_ENTITY):
        detail = str(problem.get("detail", ""))
        raise LedgerRefusalError(status, code, detail, problem.get("hold_status"))


def _insufficient(problem: Mapping[str, Any]) -> InsufficientCreditError:
    available = str(problem.get("available", "0"))
    required = str(problem.get("required", "0"))
    retryable = bool(problem.get("retryable", False))
    advice = (
        "Part of your credit is reserved by requests that are still running; try again when they "
        "have ended."
        if retryable
        else "Please top up your account."
    )
    reason = "Your credit is not sufficient for this request"
    if problem.get("code") == "spend_limit_reached":
        reason = f"{spend_limit_text(str(problem.get('limit')))} does not allow this request"
        if not retryable:
            advice = "Wait until it begins anew, or ask for a higher one."
    return InsufficientCreditError(
        f"{reason}: {required} USD needed, {available} USD available. {advice}",
        available_nanos=nanos_of_usd(available),
        required_nanos=nanos_of_usd(required),
        retryable=retryable,
        limit=None if problem.get("limit") is None else str(problem["limit"]),
    )
