"""How issued keys and their tables' rows become one another, and how they are read.

Each type's fields are called what its table's columns are called; lists are kept as JSON text.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, select

from credits_service.db.bulk import columns_of, member_of
from credits_service.db.tables import issued_keys, key_events, key_secrets
from credits_service.keys.state import IssuedKey, KeyEvent, KeyRecord, KeySecret, Scope

KEY: Final = IssuedKey.__struct_fields__
SECRET: Final = tuple(KeySecret.__dataclass_fields__)
EVENT: Final = KeyEvent._fields
KEY_COLUMNS: Final = columns_of(issued_keys, KEY)
SECRET_COLUMNS: Final = columns_of(key_secrets, SECRET)
EVENT_COLUMNS: Final = columns_of(key_events, EVENT)

_scopes = msgspec.json.Decoder(tuple[Scope, ...]).decode
_models = msgspec.json.Decoder(tuple[str, ...]).decode


def key_from(row: Sequence[Any]) -> IssuedKey:
    """Read a key from the columns `KEY`."""
    values = dict(zip(KEY, row, strict=True))
    models = values["allowed_models"]
    values["scopes"] = _scopes(values["scopes"])
    values["allowed_models"] = None if models is None else _models(models)
    return IssuedKey(**values)


def key_values(key: IssuedKey) -> dict[str, Any]:
    """Write a key as its columns' values."""
    values = msgspec.structs.asdict(key)
    for name in ("scopes", "allowed_models"):
        if values[name] is not None:
            values[name] = msgspec.json.encode(values[name]).decode()
    return values


def secret_values(secret: KeySecret) -> dict[str, Any]:
    """Write a secret's digest and what goes with it as its columns' values."""
    return {name: getattr(secret, name) for name in SECRET}


def secrets_query(dialect: str) -> Select[Any]:
    """Write the query for the secrets of the keys `ids`, the ones in force first."""
    return (
        select(*SECRET_COLUMNS)
        .where(member_of(key_secrets.c.key_id, "ids", dialect))
        .order_by(key_secrets.c.key_id, key_secrets.c.number.desc())
    )


def records_from(keys: Iterable[IssuedKey], secret_rows: Iterable[Any]) -> list[KeyRecord]:
    """Put keys and their secrets together, in the order of the keys."""
    found: dict[str, list[KeySecret]] = defaultdict(list)
    for row in secret_rows:
        secret = KeySecret(*row)
        found[secret.key_id].append(secret)
    return [KeyRecord(key, tuple(found[key.id])) for key in keys]
