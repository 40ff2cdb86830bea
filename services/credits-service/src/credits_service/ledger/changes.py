"""The rule of account changes: freezing, closing, limits. The journal tells of each."""

from typing import Any

import msgspec

from credits_service.ledger.answers import AccountChanged, AccountRefused, NotClosable
from credits_service.ledger.context import Context
from credits_service.ledger.journal import Draft, LotUse
from credits_service.ledger.lots import order_of
from credits_service.ledger.operations import CHANGEABLE, ChangeAccount
from credits_service.ledger.state import AccountState

_encode = msgspec.json.Encoder().encode
_FORFEITED = "Credit left when the account was closed"


def change_account(
    state: AccountState, operation: ChangeAccount, context: Context
) -> AccountChanged | AccountRefused | NotClosable:
    """Bring an account to what is asked for; nothing is booked if it is so already.

    A frozen account takes top-ups, refunds and captures of its holds, and nothing else. A
    closed one takes nothing, and stays closed.
    """
    account = state.account
    changes = _changes(state, operation)
    if not changes:
        return AccountChanged(state.copy(), context.now_micros)
    if account.status == "closed":
        return AccountRefused(account.user_id, "closed")
    if operation.status == "closed":
        if account.held_nanos or (account.balance_nanos and not operation.forfeit):
            return NotClosable(account.user_id, account.balance_nanos, account.held_nanos)
        _forfeit(state, context)
    for name, value in changes.items():
        setattr(account, name, value)
    details = _encode(changes).decode()
    context.book(state, Draft(kind="account_change", amount_nanos=0, lots=(), details=details))
    return AccountChanged(state.copy(), context.now_micros)


def _changes(state: AccountState, operation: ChangeAccount) -> dict[str, Any]:
    """Return what would be different, in one order whatever the request's."""
    wanted: dict[str, Any] = {
        name: operation.settings[name] for name in CHANGEABLE if name in operation.settings
    }
    if operation.status is not None:
        wanted["status"] = operation.status
    return {name: value for name, value in wanted.items() if getattr(state.account, name) != value}


def _forfeit(state: AccountState, context: Context) -> None:
    """Book what is left as lost; nothing is held."""
    uses: list[LotUse] = []
    for lot in sorted(state.lots.values(), key=order_of):
        if lot.remaining_nanos:
            uses.append(LotUse(lot.id, lot.remaining_nanos, False))
            lot.remaining_nanos = 0
    if uses:
        context.without_key().book(
            state,
            Draft(
                kind="forfeiture",
                amount_nanos=-sum(use.nanos for use in uses),
                lots=tuple(uses),
                description=_FORFEITED,
            ),
        )
