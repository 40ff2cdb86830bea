"""Whether an issued key is accepted: the credits service knows, and is asked now and then.

A verdict is kept for as long as the credits service says, 10 s at most: so soon a revocation
bites. While it can't be asked nobody is let in on a verdict that has ended, and nobody is told
that his key is wrong.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from ai_proxy_service.core.errors import KeyCheckUnavailableError
from ai_proxy_service.core.issued_keys import IssuedKey, Scope
from ai_proxy_service.core.key_refusals import KeyRefusals, RefusedUse
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services.credits_api import CreditsApi
from service_kit.issued_keys import PresentedKey, presented
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

_log = get_logger(__name__)

# Both tries together.
CHECK_SECONDS_MAX = 5.0
ACCEPTED_SECONDS_MAX = 10.0
# A key that was enabled again is accepted this soon; guesses differ, and are never found here.
REFUSED_SECONDS_MAX = 5.0
# A flood of guesses must not take all connections from those who pay.
CHECKS_AT_ONCE_MAX = 32
ACCEPTED_MAX = 10_000
REFUSED_MAX = 1_000
# Why a key that is known is refused; of one that is not there is no record.
_REASONS: Mapping[str, RefusedUse] = {
    "revoked": "revoked",
    "rotated": "rotated",
    "disabled": "disabled",
    "expired": "expired",
}


class _Answer(msgspec.Struct):
    """The answer of `POST /keys/verify`; with `active` all of it is there."""

    active: bool
    cache_seconds: float
    reason: str = ""
    key_id: str = ""
    account: str = ""
    name: str = ""
    scopes: frozenset[Scope] = frozenset()
    allowed_models: tuple[str, ...] | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_concurrent: int | None = None

    def refused(self) -> "_Refused | None":
        """Return which key was refused, if somebody had all of one."""
        reason = _REASONS.get(self.reason)
        return _Refused(self.key_id, reason) if self.key_id and reason is not None else None

    def key(self) -> IssuedKey | None:
        """Return the key that was accepted, if it was.

        Raises:
            ValueError: the answer says too little.
        """
        if not self.active:
            return None
        if not self.key_id or not self.account:
            raise ValueError("an accepted key without an id or an account")
        return IssuedKey(
            name=self.key_id,
            scopes=self.scopes,
            account=self.account,
            label=self.name,
            allowed_models=self.allowed_models,
            rpm=self.rpm,
            tpm=self.tpm,
            max_concurrent=self.max_concurrent,
        )


class _Refused(NamedTuple):
    """A key that is known, and not accepted."""

    key_id: str
    reason: RefusedUse


class _Verdict(NamedTuple):
    """What is known of a presented key, and until when; `key` is None if it is refused."""

    key: IssuedKey | None
    until_seconds: float
    refused: _Refused | None = None


class _Verdicts:
    """Verdicts by the digests of keys, no more than so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[bytes, _Verdict] = {}

    def find(self, digest: bytes, now_seconds: float) -> _Verdict | None:
        found = self._kept.get(digest)
        if found is not None and found.until_seconds <= now_seconds:
            del self._kept[digest]
            return None
        return found

    def keep(self, digest: bytes, verdict: _Verdict) -> None:
        # All live about as long: the one that came first is the first to end.
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[digest] = verdict


class KeyVerifier:
    """Tells whose an issued key is.

    Args:
        api: the credits service.
        metrics: where checks are counted.
        refusals: where what is refused without a question is noted; the ledger notes the others.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        api: CreditsApi,
        metrics: ProxyMetrics,
        refusals: KeyRefusals,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._refusals = refusals
        self._clock = clock
        self._accepted = _Verdicts(ACCEPTED_MAX)
        # Apart: a flood of guesses must not push out the keys that are in use.
        self._refused = _Verdicts(REFUSED_MAX)
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE_MAX)
        self._checks: dict[bytes, asyncio.Task[IssuedKey | None]] = {}

    async def verify(self, text: str) -> IssuedKey | None:
        """Return an issued key, or None if it is not accepted.

        Raises:
            KeyCheckUnavailableError: the credits service could not be asked.
        """
        shown = presented(text)
        if shown is None:
            return None
        now = self._clock()
        kept = self._accepted.find(shown.digest, now) or self._refused.find(shown.digest, now)
        if kept is not None:
            self._note(kept)
            return kept.key
        check = self._checks.get(shown.digest)
        if check is not None:
            key = await asyncio.shield(check)
            self._note(self._refused.find(shown.digest, now))
            return key
        check = asyncio.create_task(self._check(text, shown), name="verify-key")
        self._checks[shown.digest] = check
        check.add_done_callback(lambda done: self._checked(shown.digest, done))
        # All who wait for it share it: the first to leave must not end it.
        return await asyncio.shield(check)

    def _note(self, verdict: _Verdict | None) -> None:
        """Note that a key was refused on a verdict that somebody else had asked for."""
        if verdict is not None and verdict.refused is not None:
            self._refusals.note(*verdict.refused, current_request_id())

    def _checked(self, digest: bytes, check: asyncio.Task[IssuedKey | None]) -> None:
        del self._checks[digest]
        if not check.cancelled():
            check.exception()  # nobody may be left to be told

    async def _check(self, text: str, shown: PresentedKey) -> IssuedKey | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX), self._turns:
                # From here it counts: the verdict is younger than its question.
                asked_at = self._clock()
                answer = await self._api.call("POST", "/api/v1/keys/verify", {"key": text})
            verdict = msgspec.convert(answer, _Answer)
            key = verdict.key()
        except Exception as error:
            self._metrics.keys.checks.labels("failed").inc()
            _log.warning("key_not_checked", prefix=shown.prefix, error=type(error).__name__)
            raise KeyCheckUnavailableError from error
        self._metrics.keys.checks.labels("refused" if key is None else "accepted").inc()
        if key is None:
            seconds = min(verdict.cache_seconds, REFUSED_SECONDS_MAX)
            kept = _Verdict(None, asked_at + seconds, verdict.refused())
            self._refused.keep(shown.digest, kept)
        else:
            seconds = min(verdict.cache_seconds, ACCEPTED_SECONDS_MAX)
            self._accepted.keep(shown.digest, _Verdict(key, asked_at + seconds))
        return key
