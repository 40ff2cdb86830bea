"""The limits of an issued key: requests and tokens in a minute, and requests at once.

Tokens are counted once an answer has told them: a request is admitted as long as the minute's
tokens are not used up, and the last one may go beyond.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

from ai_proxy_service.core.issued_keys import IssuedKey
from service_kit.errors import ServiceError
from service_kit.rate_limit import retry_headers

# A minute, after the second in which they were used.
TOKENS_COUNT_SECONDS = 61
# Requests that run may end at any moment.
CONCURRENT_RETRY_SECONDS = 1.0

LimitName = Literal["requests", "tokens", "concurrent"]


class Window(NamedTuple):
    """Where a key stands with one of its limits per minute.

    Attributes:
        limit: what it may use in a minute.
        remaining: what it may use now.
        reset_seconds: until it may use more than that.
    """

    limit: int
    remaining: int
    reset_seconds: float


class Standing(NamedTuple):
    """Where a key stands when a request has been counted.

    Attributes:
        requests: None where it has no such limit; so `tokens`.
        refused_by: the limit that does not admit the request, which then counts for none.
    """

    requests: Window | None
    tokens: Window | None
    refused_by: LimitName | None


class KeyLimitStore(Protocol):
    """Counts what keys use."""

    async def enter(self, key: IssuedKey, slot: str) -> Standing:
        """Count a request, if the key's limits admit it.

        Args:
            key: who asks.
            slot: a new name, under which the request counts as running until it is left.
        """

    async def spend(self, key_id: str, tokens: int) -> None:
        """Count tokens that an answer used."""

    async def leave(self, key_id: str, slot: str) -> None:
        """Count a request as running no more."""

    async def keep(self, slots: Mapping[str, Collection[str]]) -> None:
        """Say of slots, by the ids of their keys, that they are still used."""


class KeyUse(Protocol):
    """A request that counts for its key as long as anybody uses it."""

    def join(self) -> None:
        """Say that one more part of the request runs."""

    def leave(self) -> None:
        """Say that a part has ended; with the last one the request has."""

    def spend(self, tokens: int) -> None:
        """Count tokens that an answer used."""


class UnlimitedUse:
    """A request that counts for nothing."""

    def join(self) -> None:
        """See `KeyUse`."""

    def leave(self) -> None:
        """See `KeyUse`."""

    def spend(self, tokens: int) -> None:
        """See `KeyUse`."""


UNLIMITED_USE = UnlimitedUse()


class KeyLimitReachedError(ServiceError):
    """A limit of the key does not admit the request."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, key: IssuedKey, standing: Standing) -> None:
        what, seconds = _refusal(key, standing)
        headers = retry_headers(seconds)
        super().__init__(
            f"Rate limit reached for this API key: {what}. Please try again in "
            f"{headers['retry-after']}s.",
            headers=headers,
        )


def _refusal(key: IssuedKey, standing: Standing) -> tuple[str, float]:
    if standing.refused_by == "requests" and standing.requests is not None:
        return f"{key.rpm} requests per minute (RPM)", standing.requests.reset_seconds
    if standing.refused_by == "tokens" and standing.tokens is not None:
        return f"{key.tpm} tokens per minute (TPM)", standing.tokens.reset_seconds
    return f"{key.max_concurrent} concurrent requests", CONCURRENT_RETRY_SECONDS


def shared_between(key: IssuedKey, workers: int) -> IssuedKey:
    """Return the key with each worker's part of its limits, for workers that count each alone."""
    if workers == 1:
        return key
    return replace(
        key,
        rpm=_part(key.rpm, workers),
        tpm=_part(key.tpm, workers),
        max_concurrent=_part(key.max_concurrent, workers),
    )


def _part(limit: int | None, workers: int) -> int | None:
    return None if limit is None else max(1, limit // workers)


def token_window(spent: Mapping[int, int], tpm: int, now_seconds: float) -> Window:
    """Return where a key stands with its tokens per minute.

    Args:
        spent: tokens by the second, since 1970, in which they were counted.
        tpm: the limit.
        now_seconds: the moment.
    """
    counted = {
        second + TOKENS_COUNT_SECONDS: tokens
        for second, tokens in spent.items()
        if second + TOKENS_COUNT_SECONDS > now_seconds
    }
    used = sum(counted.values())
    left, reset_seconds = used, 0.0
    for end in sorted(counted):
        left -= counted[end]
        reset_seconds = end - now_seconds
        if left < tpm:
            break
    return Window(tpm, max(0, tpm - used), reset_seconds)
