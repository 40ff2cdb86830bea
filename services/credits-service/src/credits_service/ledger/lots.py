"""Lots: in which order they are used, reserved, given back, and how they expire."""

from collections.abc import Iterable

from credits_service.ledger.journal import LotUse
from credits_service.ledger.state import AccountState, Lot, LotPart

_NEVER = 2**63


def order_of(lot: Lot) -> tuple[int, int, int, str]:
    """Return the sort key of use: priority, earliest expiry, oldest."""
    expiry = lot.expires_at_micros
    return (lot.priority, _NEVER if expiry is None else expiry, lot.created_at_micros, lot.id)


def is_due(lot: Lot, now_micros: int) -> bool:
    """Whether the lot has expired."""
    return lot.expires_at_micros is not None and lot.expires_at_micros <= now_micros


def _free_parts(state: AccountState, nanos: int) -> list[LotPart]:
    """Pick an amount from what is free, in the order of use."""
    lots = state.lots.values()
    parts: list[LotPart] = []
    for lot in lots if len(lots) == 1 else sorted(lots, key=order_of):
        if not nanos:
            break
        part = min(lot.free_nanos, nanos)
        if part:
            parts.append(LotPart(lot.id, part))
            nanos -= part
    assert not nanos, "the free parts of the lots are less than what is available"
    return parts


def take_free(state: AccountState, nanos: int) -> list[LotUse]:
    """Use up an amount of free credit."""
    uses = [LotUse(lot_id, part, False) for lot_id, part in _free_parts(state, nanos)]
    for lot_id, part, _from_hold in uses:
        state.lots[lot_id].remaining_nanos -= part
    return uses


def reserve(state: AccountState, nanos: int) -> list[LotPart]:
    """Reserve an amount of free credit."""
    parts = _free_parts(state, nanos)
    for lot_id, part in parts:
        state.lots[lot_id].held_nanos += part
    state.account.held_nanos += nanos
    return parts


def give_back(state: AccountState, parts: Iterable[LotPart]) -> None:
    """Return reserved credit to the lots that it came from."""
    for lot_id, part in parts:
        state.lots[lot_id].held_nanos -= part
        state.account.held_nanos -= part


def take_reserved(
    state: AccountState, parts: tuple[LotPart, ...], nanos: int
) -> tuple[list[LotUse], tuple[LotPart, ...]]:
    """Use up an amount of reserved credit; return the uses and what stays reserved."""
    uses: list[LotUse] = []
    rest: list[LotPart] = []
    for lot_id, part in parts:
        taken = min(part, nanos)
        if taken:
            lot = state.lots[lot_id]
            lot.remaining_nanos -= taken
            lot.held_nanos -= taken
            state.account.held_nanos -= taken
            nanos -= taken
            uses.append(LotUse(lot_id, taken, True))
        if part > taken:
            rest.append(LotPart(lot_id, part - taken))
    assert not nanos, "more is captured than the hold reserves"
    return uses, tuple(rest)


def in_order(state: AccountState, parts: Iterable[LotPart]) -> tuple[LotPart, ...]:
    """Add up the parts of each lot, in the order of use: what ends first is captured first."""
    sums: dict[str, int] = {}
    for lot_id, part in parts:
        sums[lot_id] = sums.get(lot_id, 0) + part
    ids = sorted(sums, key=lambda lot_id: order_of(state.lots[lot_id]))
    return tuple(LotPart(lot_id, sums[lot_id]) for lot_id in ids)
