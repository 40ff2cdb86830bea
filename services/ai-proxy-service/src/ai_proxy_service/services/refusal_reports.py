"""Tells the credits service of refused uses of issued keys, now and then, many at a time."""

import asyncio
from typing import Any

from ai_proxy_service.core.errors import BillingUnavailableError
from ai_proxy_service.core.key_refusals import KeyRefusals, RefusedUses
from ai_proxy_service.services.credits_api import CreditsApi
from service_kit.logging import get_logger

_log = get_logger(__name__)

REPORT_EVERY_SECONDS = 5.0
# As many as the credits service takes in one report.
REPORTED_MAX = 500
# How long a process that ends waits for the last report.
LAST_SECONDS_MAX = 2.0


class RefusalReports:
    """Reports refusals until it is stopped.

    Args:
        refusals: what has been refused.
        api: the credits service.
    """

    def __init__(self, refusals: KeyRefusals, api: CreditsApi) -> None:
        self._refusals = refusals
        self._api = api

    async def run(self) -> None:
        """Report again and again, as long as the app runs."""
        while True:
            await asyncio.sleep(REPORT_EVERY_SECONDS)
            await self.report()

    async def report(self) -> None:
        """Report what waits; what can't be reported waits for the next time."""
        while taken := self._refusals.take(REPORTED_MAX):
            body = {"refusals": [_report(uses) for uses in taken]}
            try:
                await self._api.call("POST", "/api/v1/keys/refusals", body, tries=1)
            except BillingUnavailableError:
                self._refusals.give_back(taken)
                return
            except asyncio.CancelledError:
                self._refusals.give_back(taken)
                raise
            except Exception:  # noqa: BLE001 - logged; no report is worth the task that makes them
                # What the ledger refuses for good would be refused the next time as well.
                self._refusals.drop(taken)
                _log.exception("key_refusals_not_taken", reports=len(taken))

    async def aclose(self) -> None:
        """Report what is left, if the ledger answers soon."""
        try:
            async with asyncio.timeout(LAST_SECONDS_MAX):
                await self.report()
        except TimeoutError:
            pass
        if len(self._refusals):
            _log.warning("key_refusals_not_reported", keys=len(self._refusals))


def _report(uses: RefusedUses) -> dict[str, Any]:
    """Write refused uses as the credits service takes them."""
    return {
        "key_id": uses.key_id,
        "reason": uses.reason,
        "count": uses.times,
        "request_id": uses.request_id or None,
    }
