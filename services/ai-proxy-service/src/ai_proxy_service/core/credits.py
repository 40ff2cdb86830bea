"""What an account may spend, as the ledger tells it and as the gateway shows it.

Amounts are decimal strings in USD, exact.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ai_proxy_service.core.interfaces import Balance
from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.money import nanos_of_usd, usd_text

Usd = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]
Status = Literal["open", "frozen", "closed"]


class Amounts(msgspec.Struct):
    """Limits, or what was spent: for a day, a month, and ever; null where there is no limit."""

    day: str | None = None
    month: str | None = None
    total: str | None = None


class Renewals(msgspec.Struct):
    """When a day's and a month's limits begin anew."""

    day: str | None = None
    month: str | None = None


class LedgerKey(msgspec.Struct):
    """What the ledger says of an issued key."""

    limits: Amounts
    spent: Amounts
    held: str
    spendable: str
    limited_by: str | None


class LedgerAccount(msgspec.Struct):
    """What the ledger says of an account; one of an older version says less."""

    available: str
    status: Status
    balance: str = "0"
    held: str = "0"
    spendable: str | None = None
    limited_by: str | None = None
    limits: Amounts = msgspec.field(default_factory=Amounts)
    spent: Amounts = msgspec.field(default_factory=Amounts)
    renews_at: Renewals = msgspec.field(default_factory=Renewals)
    key: LedgerKey | None = None


class SpendLimit(msgspec.Struct):
    """A spend limit, what charges have used of it, and what it leaves.

    What running requests reserve is not `spent` yet, and not `left` any more.
    """

    limit: Annotated[Usd | None, Meta(description="Null: there is no limit")]
    spent: Usd
    left: Annotated[Usd | None, Meta(description="Null: there is no limit")]
    renews_at: Annotated[
        str | None, Meta(description="When it begins anew, RFC 3339 in UTC; null: never")
    ]


class SpendLimits(msgspec.Struct):
    """The limits of a calendar day and month (UTC), and of all time."""

    day: SpendLimit
    month: SpendLimit
    total: SpendLimit


class KeyCredits(msgspec.Struct):
    """What the key that asks may spend; `spendable` is within the account's limits as well."""

    id: str
    name: str
    held: Usd
    spendable: Usd
    limited_by: Annotated[
        str | None, Meta(description="As the account's; `key_day` and the like for the key's own")
    ]
    limits: SpendLimits


class Credits(msgspec.Struct):
    """An account's credit.

    `held` is what running requests reserve, `available` the rest of the `balance`, `spendable` what
    of that the account's spend limits allow to be used now.
    """

    account: str
    status: Status
    currency: Literal["USD"]
    balance: Usd
    held: Usd
    available: Usd
    spendable: Usd
    limited_by: Annotated[
        str | None,
        Meta(
            description="The limit that allows no more: `day`, `month`, `total`; null: the credit"
        ),
    ]
    limits: SpendLimits
    key: Annotated[KeyCredits | None, Meta(description="Null for the operator's own keys")]
    object: Literal["credits"] = "credits"


def balance_of(account: LedgerAccount) -> Balance:
    """Return what can be spent of an account, with the key that the ledger was asked for.

    Raises:
        ValueError: what the ledger says is no amount.
    """
    spendable, limited_by = account.spendable or account.available, account.limited_by
    if account.key is not None:
        spendable, limited_by = account.key.spendable, account.key.limited_by
    return Balance(
        nanos_of_usd(account.available), nanos_of_usd(spendable), account.status, limited_by
    )


def credits_of(name: str, account: LedgerAccount, key: IssuedKey | None) -> Credits:
    """Return what the holder of a key is told of an account.

    Args:
        name: the account's.
        account: what the ledger says.
        key: the issued key that asks, if it is one.

    Raises:
        ValueError: what the ledger says makes no sense.
    """
    return Credits(
        account=name,
        status=account.status,
        currency="USD",
        balance=account.balance,
        held=account.held,
        available=account.available,
        spendable=account.spendable or account.available,
        limited_by=account.limited_by,
        limits=_limits(account.limits, account.spent, account.held, account.renews_at),
        key=None if key is None else _key_credits(key, account),
    )


def _key_credits(key: IssuedKey, account: LedgerAccount) -> KeyCredits:
    told = account.key
    if told is None:
        raise ValueError("the ledger says nothing of the key")
    return KeyCredits(
        id=key.name,
        name=key.label,
        held=told.held,
        spendable=told.spendable,
        limited_by=told.limited_by,
        limits=_limits(told.limits, told.spent, told.held, account.renews_at),
    )


def _limits(limits: Amounts, spent: Amounts, held: str, renews: Renewals) -> SpendLimits:
    return SpendLimits(
        day=_limit(limits.day, spent.day, held, renews.day),
        month=_limit(limits.month, spent.month, held, renews.month),
        total=_limit(limits.total, spent.total, held, None),
    )


def _limit(limit: str | None, spent: str | None, held: str, renews_at: str | None) -> SpendLimit:
    used = spent or "0"
    if limit is None:
        return SpendLimit(None, used, None, renews_at)
    left_nanos = nanos_of_usd(limit) - nanos_of_usd(used) - nanos_of_usd(held)
    return SpendLimit(limit, used, usd_text(max(0, left_nanos)), renews_at)
