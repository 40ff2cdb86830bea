"""Billing through the credits service."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from ai_proxy_service.core.credits import balance_of
from ai_proxy_service.core.errors import (
    AccountClosedError,
    AccountNotFoundError,
    BillingUnavailableError,
    InsufficientCreditError,
)
from ai_proxy_service.core.interfaces import Balance, Hold, HoldRequest
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.money import nanos_of_usd, usd_text
from ai_proxy_service.core.settlement import ChargeStatus, Settled, Settlement
from ai_proxy_service.core.usage_log import LateOutcome, UsageLog
from ai_proxy_service.services.account_reads import read_account
from ai_proxy_service.services.credits_api import CreditsApi, LedgerRefusalError
from ai_proxy_service.services.ledger_queue import LedgerQueue, operation_of
from ai_proxy_service.services.outbox import Outbox, PermanentRefusalError
from service_kit.logging import get_logger

_log = get_logger(__name__)

# Longer than Gemini may be silent, and extended with every heartbeat of an answer that grows.
HOLD_TTL_SECONDS = 900
# Both tries of a hold together: less than after what time a stream's status is sent, so that a
# refusal still has a status of its own.
HOLD_SECONDS_MAX = 8.0
# How often a hold whose answer was lost is looked for, twice as long after each time.
WITHDRAW_PAUSES_SECONDS = (0.5, 1, 2, 4, 8, 16, 32)
_ENDED_UNCHARGED = frozenset({"released", None})


class CreditsBillingService:
    """Holds and charges in the ledger."""

    enforced = True

    def __init__(
        self, api: CreditsApi, outbox: Outbox, metrics: ProxyMetrics, log: UsageLog
    ) -> None:
        self._api = api
        self._queue = LedgerQueue(api)
        self._outbox = outbox
        self._metrics = metrics
        self._log = log

    async def balance(self, account: str, key_id: str | None = None) -> Balance | None:
        """See `BillingService`."""
        try:
            return balance_of(await read_account(self._api, account, key_id))
        except AccountNotFoundError:
            return Balance(0, 0)

    async def hold(self, request: HoldRequest) -> Hold:
        """See `BillingService`."""
        try:
            async with asyncio.timeout(HOLD_SECONDS_MAX):
                return _hold(await self._place(request))
        except TimeoutError as error:
            _log.warning("hold_too_slow", key=request.key)
            raise BillingUnavailableError from error
        except (LedgerRefusalError, KeyError, ValueError) as error:
            _log.error("hold_refused", error=f"{type(error).__name__}: {error}")
            raise BillingUnavailableError from error

    async def _place(self, request: HoldRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "user_id": request.account,
            "amount": usd_text(request.amount_nanos),
            "ttl_s": HOLD_TTL_SECONDS,
            "request_ref": request.request_ref,
        }
        if request.min_amount_nanos is not None:
            body["min_amount"] = usd_text(request.min_amount_nanos)
        if request.key_id is not None:
            body["key_id"] = request.key_id
        return await self._queue.run(operation_of("hold", body, key=request.key))

    async def withdraw(self, request: HoldRequest) -> None:
        """See `BillingService`: the same key brings the lost answer, and with it the hold's id."""
        for pause_seconds in WITHDRAW_PAUSES_SECONDS:
            try:
                hold = await self.hold(request)
                await self._release(hold)
            except (InsufficientCreditError, AccountClosedError, LedgerRefusalError):
                return
            except BillingUnavailableError:
                await asyncio.sleep(pause_seconds)
            else:
                return
        _log.warning("hold_left_to_expire", key=request.key)

    async def raise_hold(self, hold: Hold, amount_nanos: int, progress_nanos: int) -> Hold:
        """See `BillingService`."""
        body = {
            "amount": usd_text(amount_nanos),
            "ttl_s": HOLD_TTL_SECONDS,
            "progress": usd_text(progress_nanos),
        }
        try:
            raised = operation_of("amend_hold", body, hold_id=hold.hold_id)
            return _hold(await self._queue.run(raised))
        except (LedgerRefusalError, AccountClosedError, KeyError, ValueError) as error:
            _log.warning("hold_not_raised", hold_id=hold.hold_id, error=str(error))
            raise BillingUnavailableError from error

    async def settle(self, settlement: Settlement) -> Settled:
        """See `BillingService`."""
        body = bill_body(settlement)
        try:
            # One try: what it does not tell, the outbox finds out without the client waiting.
            answer = await self._bill(settlement.key, body, tries=1)
            settled = Settled(
                nanos_of_usd(answer["amount"]),
                nanos_of_usd(answer["available"]),
                shortfall_nanos=_shortfall_nanos(answer),
                transaction_id=answer.get("transaction_id"),
            )
        except PermanentRefusalError as refusal:
            self._metrics.settlements_failed.inc()
            _log.critical("settlement_refused", key=settlement.key, body=body, reason=str(refusal))
            return Settled(0, None, status="refused")
        except Exception as error:  # noqa: BLE001 - no failure whatever may lose a charge
            if not isinstance(error, BillingUnavailableError):
                _log.exception("settlement_failed", key=settlement.key)
            await self._keep(settlement.key, body)
            return Settled(settlement.amount_nanos, None, status="pending")
        _log.info(
            "charged",
            account=settlement.account,
            amount_usd=answer["amount"],
            shortfall_usd=answer.get("shortfall"),
            transaction_id=answer.get("transaction_id"),
            usage=settlement.usage,
            **settlement.metadata,
        )
        return settled

    async def deliver(self, key: str, content: bytes) -> None:
        """Send one settlement from the outbox.

        Raises:
            BillingUnavailableError: try again later.
            PermanentRefusalError: it will never be accepted.
        """
        body = msgspec.json.decode(content, type=dict[str, Any])
        try:
            answer = await self._bill(key, body)
        except PermanentRefusalError:
            await self._log.note_outcome(_outcome(body, "refused"))
            raise
        await self._log.note_outcome(_outcome(body, "charged", answer))

    async def _bill(self, key: str, body: dict[str, Any], tries: int = 2) -> Mapping[str, Any]:
        try:
            answer = await self._queue.run(operation_of("bill", body, key=key), tries=tries)
        except LedgerRefusalError as refusal:
            if "hold_id" in body and _is_owed_without_hold(refusal):
                return await self._bill(key, _without_hold(body))
            raise PermanentRefusalError(str(refusal)) from refusal
        except (InsufficientCreditError, AccountClosedError) as refusal:
            raise PermanentRefusalError(str(refusal)) from refusal
        shortfall_nanos = _shortfall_nanos(answer)
        self._metrics.shortfall.inc(shortfall_nanos)
        self._metrics.shortfalls.inc(shortfall_nanos > 0)
        return answer

    async def _keep(self, key: str, body: dict[str, Any]) -> None:
        try:
            await self._outbox.put(key, msgspec.json.encode(body))
        except Exception:  # noqa: BLE001 - ledger and disk are gone: the log is what is left
            self._metrics.settlements_failed.inc()
            _log.critical("settlement_not_kept", key=key, body=body, exc_info=True)

    async def release(self, hold: Hold) -> None:
        """See `BillingService`."""
        try:
            await self._release(hold)
        except (BillingUnavailableError, LedgerRefusalError):
            _log.warning("hold_left_to_expire", hold_id=hold.hold_id)

    async def _release(self, hold: Hold) -> None:
        await self._queue.run(operation_of("release_hold", hold_id=hold.hold_id))

    async def aclose(self) -> None:
        """See `BillingService`."""
        await self._api.aclose()


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


def _without_hold(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the charge at once of what was to be captured from a hold.

    It names no key: a limit of the key's must not refuse what has been used.
    """
    return {name: value for name, value in body.items() if name != "hold_id"}


def _is_owed_without_hold(refusal: LedgerRefusalError) -> bool:
    """Tell whether somebody released the hold: what was used is still owed.

    If that was found out before, and the answer to the charge without the hold was lost, then the
    key stands for that charge already.
    """
    if refusal.code == "idempotency_key_reused":
        return True
    gone = refusal.code in {"hold_ended", "hold_not_found"}
    return gone and refusal.hold_status in _ENDED_UNCHARGED


def _shortfall_nanos(answer: Mapping[str, Any]) -> int:
    return nanos_of_usd(str(answer.get("shortfall", "0")))


def _outcome(
    body: Mapping[str, Any], status: ChargeStatus, answer: Mapping[str, Any] | None = None
) -> LateOutcome:
    metadata = body["metadata"]
    return LateOutcome(
        completion_id=metadata["completion_id"],
        attempt=metadata.get("attempt", 1),
        status=status,
        charged_nanos=nanos_of_usd(answer["amount"]) if answer else 0,
        shortfall_nanos=_shortfall_nanos(answer) if answer else 0,
        transaction_id=answer.get("transaction_id") if answer else None,
    )


def _hold(answer: Mapping[str, Any]) -> Hold:
    return Hold(
        hold_id=answer["hold_id"],
        amount_nanos=nanos_of_usd(answer["amount"]),
        # A credits service of an older version knows no spend limits.
        available_nanos=nanos_of_usd(answer.get("spendable", answer["available"])),
    )
