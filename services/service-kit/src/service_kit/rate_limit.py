"""Requests per minute and IP address, with slowapi's limiter.

slowapi's own middlewares skip routes that come from `include_router` and cut streams, and
its storage calls block; so its `Limiter` is used from a pure ASGI middleware, a remote
store is asked in a thread and within a time limit, and a limiter in memory stands in while
the store does not answer.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from slowapi import Limiter
from slowapi.util import get_remote_address
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.auth import Authenticate, presented_key
from service_kit.errors import ErrorForm, ServiceError, error_response
from service_kit.memory_counts import LoopMemoryStorage
from service_kit.store_health import StoreHealth

if TYPE_CHECKING:
    from redis import Redis

STORE_THREADS = 8
# Sixty probes a minute from one load balancer are its job, not abuse.
UNLIMITED_PATHS = frozenset({"/health", "/ready"})


@dataclass(frozen=True, slots=True)
class RateRule:
    """A number of requests per minute and address.

    Attributes:
        name: what the limit is on, as a client reads it.
        per_minute: requests allowed in any sixty seconds.
        paths: the paths it counts; empty for all.
    """

    name: str
    per_minute: int
    paths: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RateState:
    """What one rule says of one address after counting a request."""

    rule: RateRule
    allowed: bool
    remaining: int
    reset_seconds: float


class RateLimitExceededError(ServiceError):
    """More requests than the limit allows."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, state: RateState) -> None:
        headers = retry_headers(state.reset_seconds)
        super().__init__(
            f"Rate limit reached: {state.rule.per_minute} {state.rule.name} per minute for one "
            f"IP address. Please try again in {headers['retry-after']}s.",
            headers=headers,
        )


class IpRateLimiter:
    """Counts requests by address, in memory or in a shared store.

    Args:
        rules: the limits.
        storage_uri: ``memory://``, or a store that machines share: ``redis://…``, ``valkey://…``.
        health: what is known of the store, by all who ask it.
        workers: processes that serve this machine's requests.
        store_timeout_seconds: how long a request waits for the shared store.
    """

    def __init__(
        self,
        rules: Sequence[RateRule],
        *,
        storage_uri: str,
        health: StoreHealth,
        workers: int = 1,
        store_timeout_seconds: float = 0.25,
    ) -> None:
        self._local = _memory_limiter()
        self._is_remote = not storage_uri.startswith("memory")
        self._timeout_seconds = store_timeout_seconds
        self._shared = (
            _shared_limiter(storage_uri, store_timeout_seconds) if self._is_remote else self._local
        )
        # Threads of its own: while the store hangs, nobody else's work may wait behind it.
        self._threads = ThreadPoolExecutor(STORE_THREADS, "rate-limit-store")
        self._health = health
        # Workers that count each for itself share the limit between them; clients are told
        # what really applies to them.
        divide_by = 1 if self._is_remote else workers
        divided = [replace(rule, per_minute=max(1, rule.per_minute // divide_by)) for rule in rules]
        # The tightest first: what it refuses must not use up the wider ones.
        self._rules = [
            (rule, parse(f"{rule.per_minute}/minute"))
            for rule in sorted(divided, key=lambda rule: rule.per_minute)
        ]

    async def check(self, address: str, path: str) -> RateState | None:
        """Count a request and return the state of the tightest rule that covers its path."""
        rules = [(rule, item) for rule, item in self._rules if not rule.paths or path in rule.paths]
        if not rules:
            return None
        bucket = address_bucket(address)
        if self._is_remote and self._health.may_ask():
            try:
                state = await asyncio.wait_for(
                    asyncio.get_running_loop().run_in_executor(
                        self._threads, _count, self._shared, rules, bucket
                    ),
                    self._timeout_seconds,
                )
            except Exception as error:  # noqa: BLE001 - a store's client may raise anything
                self._health.note_error(error)
            else:
                self._health.note_answer()
                return state
        return _count(self._local, rules, bucket)

    def close(self) -> None:
        """Let go of the threads and of the store's connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        storage = self._shared.limiter.storage
        if isinstance(storage, RedisStorage):
            cast("Redis", storage.get_connection()).close()


def _memory_limiter() -> Limiter:
    return Limiter(
        key_func=get_remote_address,
        storage_uri=f"{LoopMemoryStorage.STORAGE_SCHEME[0]}://",
        strategy="moving-window",
    )


def _shared_limiter(storage_uri: str, timeout_seconds: float) -> Limiter:
    # Only where it is used: 9 MB, and a tenth of the start.
    from redis.backoff import NoBackoff  # noqa: PLC0415 - see above
    from redis.retry import Retry  # noqa: PLC0415

    options = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # The client's own retries would hold a thread for seconds while the store is down.
        "retry": Retry(NoBackoff(), 0),
    }
    # Valkey speaks Redis' protocol, so that one client serves both.
    if storage_uri.startswith("valkey"):
        storage_uri = f"redis{storage_uri.removeprefix('valkey')}"
    return Limiter(
        key_func=get_remote_address,
        storage_uri=storage_uri,
        storage_options=options,  # type: ignore[arg-type]  # slowapi declares str, limits takes any
        strategy="moving-window",
    )


def _count(
    limiter: Limiter, rules: Sequence[tuple[RateRule, RateLimitItem]], bucket: str
) -> RateState:
    states: list[RateState] = []
    for rule, item in rules:
        allowed = limiter.limiter.hit(item, rule.name, bucket)
        window = limiter.limiter.get_window_stats(item, rule.name, bucket)
        reset_seconds = max(0.0, window.reset_time - time.time())
        state = RateState(rule, allowed, max(0, window.remaining), reset_seconds)
        if not allowed:
            return state
        states.append(state)
    return min(states, key=lambda state: state.remaining)


@lru_cache(maxsize=4096)
def address_bucket(address: str) -> str:
    """Return whom an address counts for: an IPv6 customer holds a whole /64 (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        return str(parsed.ipv4_mapped)
    return str(parsed)


def retry_headers(seconds: float) -> dict[str, str]:
    """Return the headers that tell a client, in whole seconds and exactly, when to try again."""
    return {
        "retry-after": str(max(1, math.ceil(seconds))),
        "retry-after-ms": str(math.ceil(seconds * 1000)),
    }


def duration_text(seconds: float) -> str:
    """Write a duration as OpenAI's rate limit headers do: ``12ms``, ``1s``, ``6m0s``."""
    if (milliseconds := math.ceil(seconds * 1000)) < 1000:  # noqa: PLR2004 - ms in s
        return f"{milliseconds}ms"
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"  # noqa: PLR2004 - s in min


def limit_headers(
    unit: Literal["requests", "tokens"], limit: int, remaining: int, reset_seconds: float
) -> dict[str, str]:
    """Return OpenAI's headers that tell where a client stands."""
    return {
        f"x-ratelimit-limit-{unit}": str(limit),
        f"x-ratelimit-remaining-{unit}": str(remaining),
        f"x-ratelimit-reset-{unit}": duration_text(reset_seconds),
    }


def _tell(state: RateState, headers: MutableHeaders) -> None:
    # The app may have a limit of its own, per key: the client is told the one it meets first.
    inner = headers.get("x-ratelimit-remaining-requests", "")
    if inner.isdigit() and int(inner) <= state.remaining:
        return
    headers.update(
        limit_headers("requests", state.rule.per_minute, state.remaining, state.reset_seconds)
    )


class RateLimitMiddleware:
    """Refuses what is over the limit and tells every client where it stands.

    Args:
        app: the app inside.
        limiter: what counts.
        form: how a refusal is written.
        unlimited: whose key makes a request count for nothing: the operator's own backends,
            which all call from few addresses; None where the limit is for everybody.
        on_refused: called with the name of the limit that refused a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: IpRateLimiter,
        form: ErrorForm,
        unlimited: Authenticate | None = None,
        on_refused: Callable[[str], object] = lambda _limit: None,
    ) -> None:
        self.app = app
        self.on_refused = on_refused
        self.limiter = limiter
        self.form = form
        self.unlimited = unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            try:
                await self.app(scope, receive, send)
            finally:
                self.limiter.close()
            return
        if scope["type"] != "http" or scope["path"] in UNLIMITED_PATHS:
            await self.app(scope, receive, send)
            return
        if self.unlimited is not None and await self.unlimited(presented_key(scope)) is not None:
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        state = await self.limiter.check(client[0] if client else "unknown", scope["path"])
        if state is None:
            await self.app(scope, receive, send)
            return

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell(state, MutableHeaders(scope=message))
            await send(message)

        if not state.allowed:
            self.on_refused(state.rule.name)
            refusal = error_response(RateLimitExceededError(state), self.form)
            await refusal(scope, receive, add_headers)
            return
        await self.app(scope, receive, add_headers)
