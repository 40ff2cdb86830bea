"""The credits service over HTTP, or logging only where none is configured."""

import asyncio
import sqlite3
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.interfaces import Hold, Settled, Settlement
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.money import nanos_of_usd, usd_text
from ai_proxy_service.services.outbox import Outbox, PermanentRefusalError
from service_kit.logging import get_logger
from service_kit.request_id import HEADER as REQUEST_ID_HEADER
from service_kit.request_id import current_request_id

_log = get_logger(__name__)

CALL_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 1.0
# A hold outlives the longest answer; a crash gives its credit back after this time.
HOLD_TTL_SECONDS = 900
TRIES = 2
PAUSE_SECONDS = 0.1
OK, CREATED, PAYMENT_REQUIRED, CONFLICT = 200, 201, 402, 409
BUSY_STATUSES = frozenset({CONFLICT, 429})
SERVER_ERRORS = 500


class CreditsBillingService:
    """Holds and charges through the credits service's API; every POST carries a key."""

    enforced = True

    def __init__(self, client: httpx.AsyncClient, outbox: Outbox, metrics: ProxyMetrics) -> None:
        self._client = client
        self._outbox = outbox
        self._metrics = metrics

    async def hold(
        self,
        account: str,
        amount_nanos: int,
        *,
        key: str,
        request_ref: str,
        min_amount_nanos: int | None = None,
    ) -> Hold:
        """See `BillingService`."""
        body: dict[str, Any] = {
            "user_id": account,
            "amount": usd_text(amount_nanos),
            "ttl_s": HOLD_TTL_SECONDS,
            "request_ref": request_ref,
        }
        if min_amount_nanos is not None:
            body["min_amount"] = usd_text(min_amount_nanos)
        return _hold(await self._call("POST", "/api/v1/holds", body, key=key))

    async def raise_hold(
        self, hold: Hold, amount_nanos: int, progress_nanos: int, *, account: str
    ) -> Hold:
        """See `BillingService`."""
        body = {
            "amount": usd_text(amount_nanos),
            "ttl_s": HOLD_TTL_SECONDS,
            "progress": usd_text(progress_nanos),
        }
        return _hold(await self._call("PATCH", f"/api/v1/holds/{hold.hold_id}", body))

    async def settle(self, settlement: Settlement) -> Settled:
        """See `BillingService`."""
        body = bill_body(settlement)
        try:
            answer = await self._call("POST", "/api/v1/bill", body, key=settlement.key)
        except BillingUnavailableError:
            await self._keep(settlement.key, body)
            return Settled(settlement.amount_nanos, None, delivered=False)
        except InsufficientCreditError:
            # A capture never answers 402; without a hold there is nobody left to refuse.
            self._metrics.settlements_failed.inc()
            _log.exception("settlement_refused", key=settlement.key, body=body)
            return Settled(0, None)
        self._metrics.shortfall.inc(nanos_of_usd(answer["shortfall"]))
        _log.info(
            "charged",
            account=settlement.account,
            amount_usd=answer["amount"],
            shortfall_usd=answer["shortfall"],
            transaction_id=answer["transaction_id"],
            usage=settlement.usage,
            **settlement.metadata,
        )
        return Settled(nanos_of_usd(answer["amount"]), nanos_of_usd(answer["available"]))

    async def _keep(self, key: str, body: dict[str, Any]) -> None:
        try:
            await self._outbox.put(key, msgspec.json.encode(body))
        except (sqlite3.Error, OSError, ValueError):
            # Ledger and disk are both gone: the log is the last place that can hold the charge.
            self._metrics.settlements_failed.inc()
            _log.critical("settlement_not_kept", key=key, body=body, exc_info=True)

    async def release(self, hold: Hold) -> None:
        """See `BillingService`."""
        try:
            await self._call("DELETE", f"/api/v1/holds/{hold.hold_id}", None)
        except (BillingUnavailableError, InsufficientCreditError):
            _log.warning("hold_left_to_expire", hold_id=hold.hold_id)

    async def deliver(self, key: str, body: bytes) -> None:
        """Send one settlement from the outbox.

        Raises:
            BillingUnavailableError: try again later.
            PermanentRefusalError: it will never be accepted.
        """
        response = await self._send("POST", "/api/v1/bill", body, key)
        if response.status_code == OK:
            return
        if response.status_code in BUSY_STATUSES or response.status_code >= SERVER_ERRORS:
            raise BillingUnavailableError
        if response.status_code in {401, 403}:
            # The key is wrong: an operator mends that, and the charge must not be lost by then.
            _log.error("credits_key_refused", status=response.status_code)
            raise BillingUnavailableError
        raise PermanentRefusalError(f"status {response.status_code}: {response.text[:500]}")

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, key: str | None = None
    ) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                response = await self._send(method, path, content, key)
            except BillingUnavailableError:
                if attempt == TRIES - 1:
                    raise
                continue
            if response.status_code in {OK, CREATED, 204}:
                return msgspec.json.decode(response.content) if response.content else None
            if response.status_code == PAYMENT_REQUIRED:
                raise _insufficient(response.content)
            if response.status_code not in BUSY_STATUSES and response.status_code < SERVER_ERRORS:
                break
        _log.error(
            "credits_call_failed",
            method=method,
            path=path,
            status=response.status_code,
            body=response.text[:500],
        )
        raise BillingUnavailableError

    async def _send(
        self, method: str, path: str, content: bytes | None, key: str | None
    ) -> httpx.Response:
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["idempotency-key"] = key
        request_id = current_request_id()
        if request_id:
            headers[REQUEST_ID_HEADER] = request_id
        try:
            return await self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            _log.warning(
                "credits_unreachable", method=method, path=path, error=type(error).__name__
            )
            raise BillingUnavailableError from error

    async def aclose(self) -> None:
        """See `BillingService`."""
        await self._client.aclose()


def connect(base_url: str, key: str) -> httpx.AsyncClient:
    """Open the pool of connections to the credits service."""
    return httpx.AsyncClient(
        base_url=base_url.rstrip("/"),
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(CALL_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
        # Under httpx's interface, aiohttp's transport costs a third of httpx's own.
        transport=AiohttpTransport(),
        # A proxy that the environment names for the outside world is not for the ledger.
        trust_env=False,
    )


def bill_body(settlement: Settlement) -> dict[str, Any]:
    """Return the body of `POST /api/v1/bill` for a settlement."""
    body: dict[str, Any] = {
        "user_id": settlement.account,
        "amount": usd_text(settlement.amount_nanos),
        "description": settlement.description,
        "usage": settlement.usage,
        "price": settlement.price,
        "metadata": settlement.metadata,
    }
    if settlement.hold_id:
        body["hold_id"] = settlement.hold_id
    return body


def _hold(answer: Mapping[str, Any]) -> Hold:
    return Hold(
        hold_id=answer["hold_id"],
        amount_nanos=nanos_of_usd(answer["amount"]),
        available_nanos=nanos_of_usd(answer["available"]),
    )


def _insufficient(content: bytes) -> InsufficientCreditError:
    problem = msgspec.json.decode(content)
    available = str(problem.get("available", "0"))
    required = str(problem.get("required", ""))
    retryable = bool(problem.get("retryable", False))
    advice = (
        "Part of your credit is reserved by requests that are still running; try again when they "
        "have ended."
        if retryable
        else "Please top up your account."
    )
    return InsufficientCreditError(
        f"Your credit is not sufficient for this request: {required} USD needed, {available} USD "
        f"available. {advice}",
        available_nanos=nanos_of_usd(available),
        retryable=retryable,
    )


class LoggingBillingService:
    """Enforces nothing: each charge is logged and counted, as the start-up log says."""

    enforced = False

    async def hold(
        self,
        account: str,
        amount_nanos: int,
        *,
        key: str,
        request_ref: str,
        min_amount_nanos: int | None = None,
    ) -> Hold:
        """Reserve nothing."""
        return Hold("", amount_nanos, None)

    async def raise_hold(
        self, hold: Hold, amount_nanos: int, progress_nanos: int, *, account: str
    ) -> Hold:
        """Reserve nothing."""
        return Hold("", amount_nanos, None)

    async def settle(self, settlement: Settlement) -> Settled:
        """Write the charge to the log."""
        _log.info(
            "charge_not_billed",
            account=settlement.account,
            amount_usd=usd_text(settlement.amount_nanos),
            usage=settlement.usage,
            **settlement.metadata,
        )
        return Settled(settlement.amount_nanos, None)

    async def release(self, hold: Hold) -> None:
        """Nothing is reserved."""

    async def aclose(self) -> None:
        """Nothing is open."""
