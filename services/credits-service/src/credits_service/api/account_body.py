"""How accounts are written."""

import msgspec

from credits_service.api import wire
from credits_service.core.moments import moment_or_none, rfc3339
from credits_service.core.money import optional_usd, usd_from_nanos
from credits_service.ledger.lots import order_of
from credits_service.ledger.spending import Spender, renewal, spendable, spent
from credits_service.ledger.state import Account, AccountState, KeySpending, Lot


def account_body(
    state: AccountState, now_micros: int, key: KeySpending | None = None
) -> wire.AccountResponse:
    """Write an account with its live lots in the order of use, as it is at a moment.

    Args:
        state: the account.
        now_micros: the moment.
        key: one of its issued keys, if it is to be shown as well.
    """
    live = sorted((lot for lot in state.lots.values() if lot.remaining_nanos), key=order_of)
    figures = msgspec.structs.asdict(account_summary(state.account, now_micros))
    renews = renewal(now_micros)
    return wire.AccountResponse(
        **figures,
        lots=[_lot(lot) for lot in live],
        renews_at=wire.RenewalBody(rfc3339(renews.day_micros), rfc3339(renews.month_micros)),
        key=msgspec.UNSET if key is None else _standing(state.account, key, now_micros),
    )


def account_summary(account: Account, now_micros: int) -> wire.AccountSummary:
    """Write an account's figures."""
    free = spendable(account, now_micros)
    return wire.AccountSummary(
        user_id=account.user_id,
        status=account.status,
        unit="USD",
        balance=usd_from_nanos(account.balance_nanos),
        held=usd_from_nanos(account.held_nanos),
        available=usd_from_nanos(account.available_nanos),
        spendable=usd_from_nanos(free.nanos),
        limited_by=free.limit,
        shortfall=usd_from_nanos(account.shortfall_nanos),
        low_balance=optional_usd(account.low_balance_nanos),
        limits=_limits(account),
        spent=spent_body(account, now_micros),
        seq=account.seq,
        created_at=rfc3339(account.created_at_micros),
        updated_at=rfc3339(account.updated_at_micros),
    )


def spent_body(spender: Spender, now_micros: int) -> wire.SpentBody:
    """Write what charges took of an account, or for one of its keys."""
    used = spent(spender, now_micros)
    return wire.SpentBody(
        day=usd_from_nanos(used.day_nanos),
        month=usd_from_nanos(used.month_nanos),
        total=usd_from_nanos(used.total_nanos),
    )


def _standing(account: Account, key: KeySpending, now_micros: int) -> wire.KeyStanding:
    free = spendable(account, now_micros, key)
    return wire.KeyStanding(
        key_id=key.key_id,
        limits=_limits(key),
        spent=spent_body(key, now_micros),
        held=usd_from_nanos(key.held_nanos),
        spendable=usd_from_nanos(free.nanos),
        limited_by=free.limit,
    )


def _limits(spender: Spender) -> wire.SpendLimits:
    return wire.SpendLimits(
        day=optional_usd(spender.limit_day_nanos),
        month=optional_usd(spender.limit_month_nanos),
        total=optional_usd(spender.limit_total_nanos),
    )


def _lot(lot: Lot) -> wire.LotBody:
    return wire.LotBody(
        lot_id=lot.id,
        source=lot.source,
        priority=lot.priority,
        granted=usd_from_nanos(lot.granted_nanos),
        remaining=usd_from_nanos(lot.remaining_nanos),
        held=usd_from_nanos(lot.held_nanos),
        expires_at=moment_or_none(lot.expires_at_micros),
        created_at=rfc3339(lot.created_at_micros),
        reference=lot.reference,
    )
