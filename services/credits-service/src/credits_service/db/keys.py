"""Changes issued keys: each change, its event and its remembered answer in one transaction."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, insert, update

from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.ids import new_id
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.engine import Database
from credits_service.db.failures import Failure, classify
from credits_service.db.key_rows import key_values, secret_values
from credits_service.db.key_writes import (
    Call,
    KeyChangeRefusedError,
    add_event,
    assert_open,
    is_stored,
    lock_key,
    remember_answer,
    remembered_answer,
    update_key,
)
from credits_service.db.load import Clock, Loader
from credits_service.db.tables import issued_keys, key_secrets, key_spending
from credits_service.keys.rules import changed, rotated, secret_of
from credits_service.keys.secret import NewSecret
from credits_service.keys.state import IssuedKey, KeyRecord
from credits_service.ledger.answers import KeyReused, Unacceptable
from credits_service.ledger.idempotency import KEY_HEADER, Remembered

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.02
_CHANGE_SECONDS = 10.0
_OK = 200
_PAST = Unacceptable("expires_at", "must be in the future")

Render = Callable[[KeyRecord, int], bytes]


class Changed(NamedTuple):
    """What came of a change.

    Attributes:
        body: the key as it was written then; never a secret.
        replayed: whether it was done before, under the same idempotency key.
    """

    body: bytes
    replayed: bool


class KeyStore:
    """Makes and changes keys.

    Args:
        database: where they are.
        clock: as the ledger's.
        render: how a key is written at a moment.
    """

    def __init__(self, database: Database, clock: Clock | None, *, render: Render) -> None:
        self._database = database
        self._loader = Loader(database.writer.dialect.name, clock)
        self._render = render
        self._change_seconds = None if database.is_sqlite else _CHANGE_SECONDS
        # One change at a time: batches of the ledger share the connections.
        self._one_at_a_time = asyncio.Lock()

    async def create(self, settings: Mapping[str, Any], secret: NewSecret, call: Call) -> Changed:
        """Make a key.

        Args:
            settings: attributes of the key, by their names.
            secret: its secret.
            call: who asks.

        Raises:
            KeyChangeRefusedError: no such account, or it is closed; it would have expired.
            LedgerUnavailableError: the database can't be asked; the key may have been made.
        """
        key_id = new_id()

        def work(connection: Connection, now: int) -> KeyRecord:
            assert_open(connection, settings["account"])
            expires_at_micros = settings["expires_at_micros"]
            if expires_at_micros is not None and expires_at_micros <= now:
                raise KeyChangeRefusedError(_PAST)
            key = IssuedKey(
                id=key_id,
                disabled=False,
                created_at_micros=now,
                created_by=call.actor.principal,
                updated_at_micros=now,
                **settings,
            )
            first = secret_of(key_id, 1, secret, now)
            connection.execute(insert(issued_keys).values(key_values(key)))
            connection.execute(insert(key_spending).values(key_id=key_id))
            connection.execute(insert(key_secrets).values(secret_values(first)))
            add_event(
                connection,
                key_id,
                "created",
                {"prefix": secret.prefix},
                actor=call.actor,
                now_micros=now,
            )
            return KeyRecord(key, (first,))

        return await self._run(call, work, secret)

    async def change(self, key_id: str, settings: Mapping[str, Any], call: Call) -> Changed:
        """Change a key's settings.

        Args:
            key_id: which.
            settings: the attributes that are named; others stay.
            call: who asks.

        Raises:
            KeyChangeRefusedError: no such key, or it is revoked.
            LedgerUnavailableError: the database can't be asked; it may have been changed.
        """

        def work(connection: Connection, now: int) -> KeyRecord:
            record = lock_key(connection, key_id)
            key, changes = changed(record.key, settings, now)
            if changes:
                update_key(connection, key)
                add_event(
                    connection,
                    key_id,
                    "changed",
                    {"changes": changes},
                    actor=call.actor,
                    now_micros=now,
                )
            return record._replace(key=key)

        return await self._run(call, work)

    async def rotate(
        self, key_id: str, secret: NewSecret, *, grace_micros: int, call: Call
    ) -> Changed:
        """Give a key a new secret; those before it end with the grace.

        Raises:
            KeyChangeRefusedError: no such key, or it is revoked.
            LedgerUnavailableError: the database can't be asked; it may have been rotated.
        """

        def work(connection: Connection, now: int) -> KeyRecord:
            record = lock_key(connection, key_id)
            current, ended = rotated(
                record.secrets, secret, grace_micros=grace_micros, now_micros=now
            )
            key = msgspec.structs.replace(record.key, updated_at_micros=now)
            for old in ended:
                change = update(key_secrets).where(key_secrets.c.prefix == old.prefix)
                connection.execute(change.values(ends_at_micros=old.ends_at_micros))
            connection.execute(insert(key_secrets).values(secret_values(current)))
            update_key(connection, key)
            details = {
                "from": record.secrets[0].prefix,
                "to": current.prefix,
                "grace_seconds": grace_micros // MICROS_PER_SECOND,
            }
            add_event(connection, key_id, "rotated", details, actor=call.actor, now_micros=now)
            by_prefix = {old.prefix: old for old in ended}
            before = [by_prefix.get(old.prefix, old) for old in record.secrets]
            return KeyRecord(key, (current, *before))

        return await self._run(call, work, secret)

    async def revoke(self, key_id: str, call: Call) -> Changed:
        """End a key for good; one that is revoked stays as it is.

        Raises:
            KeyChangeRefusedError: no such key.
            LedgerUnavailableError: the database can't be asked; it may have been revoked.
        """

        def work(connection: Connection, now: int) -> KeyRecord:
            record = lock_key(connection, key_id, or_revoked=True)
            if record.key.revoked_at_micros is not None:
                return record
            key = msgspec.structs.replace(record.key, revoked_at_micros=now, updated_at_micros=now)
            update_key(connection, key)
            add_event(connection, key_id, "revoked", {}, actor=call.actor, now_micros=now)
            return record._replace(key=key)

        return await self._run(call, work)

    async def _run(
        self,
        call: Call,
        work: Callable[[Connection, int], KeyRecord],
        secret: NewSecret | None = None,
    ) -> Changed:
        mark = hashlib.sha256(msgspec.json.encode(call.request, order="sorted")).digest()

        def transaction(connection: Connection) -> Changed:
            known = None if call.key is None else remembered_answer(connection, call.key)
            if known is not None:
                if known.fingerprint != mark:
                    raise KeyChangeRefusedError(KeyReused(KEY_HEADER))
                # A commit whose answer was lost in between was this very call's.
                own = secret is not None and is_stored(connection, secret)
                return Changed(known.body, replayed=not own)
            now = self._loader.now(connection)
            body = self._render(work(connection, now), now)
            if call.key is not None:
                remember_answer(connection, call.key, Remembered(mark, _OK, body), now)
            connection.commit()
            return Changed(body, replayed=False)

        try:
            async with asyncio.timeout(self._change_seconds), self._one_at_a_time:
                return await self._repeated(transaction)
        except TimeoutError as error:
            raise LedgerUnavailableError from error

    async def _repeated(self, transaction: Callable[[Connection], T]) -> T:
        for number in range(1, _ATTEMPTS + 1):
            try:
                return await self._database.write(transaction)
            except Exception as error:
                failure = classify(error)
                if failure is Failure.UNEXPECTED:
                    raise
                is_final = failure in {Failure.BUSY, Failure.UNREPLICATED}
                if is_final or number == _ATTEMPTS:
                    raise LedgerUnavailableError from error
            # Jitter against processes that collide in step; no secret depends on it.
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**number))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")
