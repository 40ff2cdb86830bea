"""What must be true of a hold and of the charges on it. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from credits_service.core.money import MAX_NANOS
from credits_service.ledger.journal import Transaction
from credits_service.ledger.state import Hold, Lot
from credits_service.ledger.violations import Violations


class _Told(msgspec.Struct):
    """What the charges on a hold say of it.

    Attributes:
        reserved_nanos: what was taken from what it reserved.
        used_nanos: what was asked for.
        settled_nanos: what its expiry settled and no later capture was set against.
        progress_nanos: what it had used when its expiry was charged.
        end: how a charge ended it; None if none did.
        is_traced: whether they say how they left it; those of older versions do not.
    """

    reserved_nanos: int = 0
    used_nanos: int = 0
    settled_nanos: int = 0
    progress_nanos: int | None = None
    end: str | None = None
    ended_at_micros: int | None = None
    is_late: bool = False
    is_traced: bool = True
    last_micros: int = 0


def audit_hold(
    hold: Hold, captures: Sequence[Transaction], lots: Mapping[str, Lot], violations: Violations
) -> None:
    """Compare a hold with the charges on it.

    Args:
        hold: the hold.
        captures: all charges that name it, in order of their numbers.
        lots: the account's, by id.
        violations: where what is wrong is noted.
    """
    row, told = f"hold {hold.id}", _told(captures, violations)
    ensure, expect = violations.ensure, violations.expect
    expect("11 captured is what was booked", told.reserved_nanos, hold.captured_nanos, row)
    expect("11 used is what was asked for", told.used_nanos, hold.used_nanos, row)
    ensure("11 captured within amount", hold.captured_nanos <= hold.amount_nanos, row)
    reserved = sum(part.nanos for part in hold.lots)
    expect("5 reserved in lots", hold.uncaptured_nanos, reserved, row)
    known = all(part.nanos > 0 and part.lot_id in lots for part in hold.lots)
    ensure("5 reserved in lots of the account", known, row)
    _check_lots(hold, captures, lots, violations)
    _check_moments(hold, told, violations)
    if told.is_traced:
        _check_end(hold, told, violations)


def _told(captures: Sequence[Transaction], violations: Violations) -> _Told:
    told = _Told()
    for capture in captures:
        requested = capture.requested_nanos or 0
        told.reserved_nanos += sum(use.nanos for use in capture.lots if use.from_hold)
        told.used_nanos = min(MAX_NANOS, told.used_nanos + requested)
        told.settled_nanos -= capture.settled_before_nanos
        told.last_micros = capture.booked_at_micros
        if capture.details is None:
            told.is_traced = False
            continue
        try:
            end = msgspec.json.decode(capture.details, type=dict[str, str | None])["end"]
        except (msgspec.DecodeError, KeyError):
            violations.require("11 a capture says how it left its hold", False, capture)
            continue
        if end is None:
            continue
        once = not told.is_late if end == "late" else told.end is None
        violations.require("11 a hold ends once", once, capture)
        if end == "late":
            told.is_late = True
            continue
        told.end, told.ended_at_micros = end, capture.booked_at_micros
        if end == "expired":
            told.settled_nanos += requested
            told.progress_nanos = told.used_nanos
    return told


def _check_lots(
    hold: Hold, captures: Sequence[Transaction], lots: Mapping[str, Lot], violations: Violations
) -> None:
    for capture in captures:
        for use in capture.lots:
            lot = lots.get(use.lot_id)
            if lot is None or not use.from_hold or lot.expires_at_micros is None:
                continue
            placed_before = hold.created_at_micros < lot.expires_at_micros
            violations.ensure(
                "9 expired lot only for a hold placed before", placed_before, f"hold {hold.id}"
            )


def _check_moments(hold: Hold, told: _Told, violations: Violations) -> None:
    row, ensure = f"hold {hold.id}", violations.ensure
    created, ended = hold.created_at_micros, hold.ended_at_micros
    ensure("11 a hold ends once", (hold.status == "active") == (ended is None), row)
    ensure("11 moments of a hold", created < hold.expires_at_micros, row)
    if ended is None:
        changed = max(created, told.last_micros)
        ensure("11 moments of a hold", changed <= hold.updated_at_micros, row)
        return
    is_over = ended >= hold.expires_at_micros
    ensure("11 moments of a hold", is_over == (hold.status == "expired"), row)
    ensure("11 moments of a hold", created <= ended, row)
    changed = max(ended, told.last_micros)
    ensure("11 moments of a hold", changed == hold.updated_at_micros, row)


def _check_end(hold: Hold, told: _Told, violations: Violations) -> None:
    row, ensure, expect = f"hold {hold.id}", violations.ensure, violations.expect
    if told.end is None:
        ensure("11 ended as booked", hold.status != "captured", row)
    else:
        ensure("11 ended as booked", hold.status == told.end, row)
        ensure("11 ended when booked", hold.ended_at_micros == told.ended_at_micros, row)
    ensure("11 captured late as booked", bool(hold.late_captured) == told.is_late, row)
    ensure("11 captured late as booked", not told.is_late or hold.status == "expired", row)
    expect("11 settled by its expiry", told.settled_nanos, hold.settled_nanos, row)
    if told.progress_nanos is not None:
        expect("11 progress at expiry", told.progress_nanos, hold.progress_nanos, row)
    elif hold.status == "expired":
        # Nothing was charged when it expired: no more than was charged had been reported.
        ensure("11 progress at expiry", hold.progress_nanos <= hold.used_nanos, row)
