"""Admits requests of issued keys by their limits, in this process or for all proxies together.

While the shared store does not answer each process keeps the limits itself.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import KeyLimitStore, Standing, shared_between
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services.key_limit_memory import MemoryKeyLimits
from ai_proxy_service.services.key_limit_redis import SLOT_SECONDS, RedisKeyLimits
from service_kit.store_health import StoreHealth

T = TypeVar("T")

KEEP_EVERY_SECONDS = SLOT_SECONDS / 3
# How long a process that ends waits for what it has not told the store yet.
CLOSE_SECONDS_MAX = 2.0


class KeyLimiter:
    """Counts what issued keys use.

    Args:
        storage_uri: ``memory://``, or a store that proxies share: ``redis://…``, ``valkey://…``.
        workers: processes that serve this machine's requests.
        metrics: where refusals are counted.
        health: what is known of the store, by all who ask it.
        store_timeout_seconds: how long a request waits for the shared store.

    Raises:
        ValueError: the address is not one.
    """

    def __init__(
        self,
        storage_uri: str,
        workers: int,
        metrics: ProxyMetrics,
        *,
        health: StoreHealth,
        store_timeout_seconds: float = 0.25,
    ) -> None:
        self._metrics = metrics
        self._timeout_seconds = store_timeout_seconds
        self._local = MemoryKeyLimits()
        is_local = storage_uri.startswith("memory")
        self._shared = (
            None
            if is_local
            else RedisKeyLimits.connect(storage_uri, timeout_seconds=store_timeout_seconds)
        )
        self._store: KeyLimitStore = self._shared or self._local
        self._workers = workers if is_local else 1
        self._health = health
        self._background = BackgroundTasks()
        self._shared_slots: dict[str, set[str]] = {}

    async def enter(self, key: IssuedKey) -> "CountedUse":
        """Count a request; whoever does not run it has to leave it.

        Returns:
            The request, whose standing tells whether it is admitted.
        """
        key = shared_between(key, self._workers)
        slot = secrets.token_hex(8)
        store, standing = await self._ask(self._store, lambda store: store.enter(key, slot))
        if standing.refused_by is not None:
            self._metrics.keys.limits_reached.labels(standing.refused_by).inc()
        elif key.max_concurrent is not None and store is self._shared:
            self._shared_slots.setdefault(key.name, set()).add(slot)
        return CountedUse(self, store, key, slot, standing)

    async def _ask(
        self, store: KeyLimitStore, call: Callable[[KeyLimitStore], Awaitable[T]]
    ) -> tuple[KeyLimitStore, T]:
        """Ask a store; in place of the shared one, while it does not answer, this process's own."""
        if store is not self._local and self._health.may_ask():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    answer = await call(store)
            except Exception as error:  # noqa: BLE001 - a store's client may raise anything
                self._health.note_error(error)
            else:
                self._health.note_answer()
                return store, answer
        return self._local, await call(self._local)

    def count(self, store: KeyLimitStore, key_id: str, tokens: int) -> None:
        """Count tokens; nobody's answer waits for that."""
        counting = self._ask(store, lambda store: store.spend(key_id, tokens))
        self._background.start(counting, "count-tokens")

    def free(self, store: KeyLimitStore, key_id: str, slot: str) -> None:
        """Free a slot; nobody's answer waits for that."""
        used = self._shared_slots.get(key_id, set())
        used.discard(slot)
        if not used:
            self._shared_slots.pop(key_id, None)
        freeing = self._ask(store, lambda store: store.leave(key_id, slot))
        self._background.start(freeing, "free-slot")

    async def keep_slots(self) -> None:
        """Say again and again, as long as the app runs, which slots of the store are used."""
        while True:
            await asyncio.sleep(KEEP_EVERY_SECONDS)
            if self._shared_slots:
                await self._ask(self._store, self._keep)

    async def _keep(self, store: KeyLimitStore) -> None:
        used = {key_id: tuple(slots) for key_id, slots in self._shared_slots.items()}
        await store.keep(used)

    async def aclose(self) -> None:
        """Say what has not been said yet, and close all connections."""
        await self._background.finish(min(2 * self._timeout_seconds, CLOSE_SECONDS_MAX))
        if self._shared is not None:
            await self._shared.aclose()


class CountedUse:
    """A request that has been counted for its key (`KeyUse`).

    Attributes:
        key: with the limits that hold here.
        standing: where the key stood.
    """

    def __init__(
        self,
        limiter: KeyLimiter,
        store: KeyLimitStore,
        key: IssuedKey,
        slot: str,
        standing: Standing,
    ) -> None:
        self.key = key
        self.standing = standing
        self._limiter = limiter
        self._store = store
        self._slot = slot
        self._parts = 1

    def join(self) -> None:
        """See `KeyUse`."""
        self._parts += 1

    def leave(self) -> None:
        """See `KeyUse`."""
        self._parts -= 1
        if self._parts == 0 and self.key.max_concurrent is not None:
            self._limiter.free(self._store, self.key.name, self._slot)

    def spend(self, tokens: int) -> None:
        """See `KeyUse`."""
        if self.key.tpm is not None and tokens:
            self._limiter.count(self._store, self.key.name, tokens)
