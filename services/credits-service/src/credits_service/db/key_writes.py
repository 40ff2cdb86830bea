"""The statements that changes of issued keys are made of, and why a change is refused."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from credits_service.db.bulk import columns_of, members
from credits_service.db.key_rows import (
    KEY_COLUMNS,
    key_from,
    key_values,
    records_from,
    secrets_query,
)
from credits_service.db.tables import (
    accounts,
    idempotency_keys,
    issued_keys,
    key_events,
    key_secrets,
)
from credits_service.keys.secret import NewSecret
from credits_service.keys.state import EventKind, IssuedKey, KeyEvent, KeyRecord
from credits_service.ledger.answers import AccountRefused, AccountUnknown, KeyReused, Unacceptable
from credits_service.ledger.idempotency import IdempotencyKey, Remembered

_REMEMBERED = columns_of(idempotency_keys, Remembered._fields)


class KeyMissing(NamedTuple):
    """There is no such key, or it can't be changed any more: it is revoked."""

    key_id: str
    reason: Literal["unknown", "revoked"]


class KeyChangeRefusedError(Exception):
    """A change was refused, and nothing is changed.

    Attributes:
        refusal: why.
    """

    def __init__(
        self, refusal: KeyMissing | AccountUnknown | AccountRefused | KeyReused | Unacceptable
    ) -> None:
        super().__init__()
        self.refusal = refusal


class Actor(NamedTuple):
    """Who did something, and with which request."""

    principal: str
    request_id: str


class Call(NamedTuple):
    """A change that is asked for.

    Attributes:
        actor: who asks.
        request: what is asked for: with the same `key` it must be the same.
        key: the idempotency key, if there is one.
    """

    actor: Actor
    request: Any
    key: IdempotencyKey | None


def add_event(
    connection: Connection,
    key_id: str,
    kind: EventKind,
    details: Mapping[str, Any],
    *,
    actor: Actor,
    now_micros: int,
) -> None:
    """Write down what happened to a key that is locked."""
    last = select(func.max(key_events.c.seq)).where(key_events.c.key_id == key_id)
    seq = (connection.scalar(last) or 0) + 1
    text = msgspec.json.encode(details).decode()
    event = KeyEvent(key_id, seq, kind, text, *actor, now_micros)
    connection.execute(insert(key_events).values(event._asdict()))


def assert_open(connection: Connection, account: str) -> None:
    """Refuse an account that is not there, or closed.

    Raises:
        KeyChangeRefusedError: it is.
    """
    status = connection.scalar(select(accounts.c.status).where(accounts.c.user_id == account))
    if status is None:
        raise KeyChangeRefusedError(AccountUnknown(account))
    if status == "closed":
        raise KeyChangeRefusedError(AccountRefused(account, status))


def lock_key(connection: Connection, key_id: str, *, or_revoked: bool = False) -> KeyRecord:
    """Lock a key and read it.

    Raises:
        KeyChangeRefusedError: it is not there, or revoked.
    """
    query = select(*KEY_COLUMNS).where(issued_keys.c.id == key_id).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise KeyChangeRefusedError(KeyMissing(key_id, "unknown"))
    key = key_from(row)
    if key.revoked_at_micros is not None and not or_revoked:
        raise KeyChangeRefusedError(KeyMissing(key_id, "revoked"))
    dialect = connection.dialect.name
    secrets = connection.execute(secrets_query(dialect), {"ids": members([key_id], dialect)})
    return records_from([key], secrets)[0]


def update_key(connection: Connection, key: IssuedKey) -> None:
    """Overwrite a key that is locked."""
    # When it was last used others may have noted meanwhile.
    values = {name: new for name, new in key_values(key).items() if name != "last_used_at_micros"}
    connection.execute(update(issued_keys).where(issued_keys.c.id == key.id).values(values))


def remembered_answer(connection: Connection, key: IdempotencyKey) -> Remembered | None:
    """Return the outcome of an idempotency key, if it has one."""
    query = select(*_REMEMBERED).where(
        idempotency_keys.c.key == key.key, idempotency_keys.c.scope == key.scope
    )
    row = connection.execute(query).first()
    return None if row is None else Remembered(*row)


def is_stored(connection: Connection, secret: NewSecret) -> bool:
    """Whether a secret was committed."""
    query = select(key_secrets.c.prefix).where(
        key_secrets.c.prefix == secret.prefix, key_secrets.c.digest == secret.digest
    )
    return connection.scalar(query) is not None


def remember_answer(
    connection: Connection, key: IdempotencyKey, remembered: Remembered, now_micros: int
) -> None:
    """Remember the outcome of an idempotency key."""
    row = {**key._asdict(), **remembered._asdict(), "created_at_micros": now_micros}
    connection.execute(insert(idempotency_keys).values(row))
