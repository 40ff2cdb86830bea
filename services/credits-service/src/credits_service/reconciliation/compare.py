"""Sets the records of one billing key against its charges."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from credits_service.core.money import usd_from_nanos
from credits_service.reconciliation.findings import Finding, Kind
from credits_service.reconciliation.ledger_charges import LedgerCharge
from credits_service.reconciliation.period import Period
from credits_service.reconciliation.usage_log import UsageRecord, counts_of

_UNCHARGED = {"pending": Kind.PENDING, "refused": Kind.REFUSED, "not_billed": Kind.NOT_BILLED}
# What delivering a charge later changes of its record.
_SETTLED_LATER = ("status", "charged", "shortfall", "transaction_id")


class Resolved(NamedTuple):
    """What several copies of a record say.

    Attributes:
        record: the one that counts.
        conflict: another one that contradicts it.
    """

    record: UsageRecord
    conflict: UsageRecord | None


def resolved(records: Sequence[UsageRecord]) -> Resolved:
    """Choose the record that counts among those of one key.

    Exports may overlap, and one that was made before a charge was delivered still calls it
    pending.
    """
    latest = next((each for each in records if each.status != "pending"), records[0])
    conflict = next((each for each in records if _contradicts(each, latest)), None)
    return Resolved(latest, conflict)


def _contradicts(record: UsageRecord, latest: UsageRecord) -> bool:
    if record.status == "pending":
        record = msgspec.structs.replace(
            record, **{name: getattr(latest, name) for name in _SETTLED_LATER}
        )
    return record != latest


def compare(
    found: Resolved | None,
    charges: Sequence[LedgerCharge],
    *,
    period: Period,
    log_begins_at_micros: int,
) -> Iterator[Finding]:
    """Tell how a record and the charges of its key differ.

    Args:
        found: the record, if there is one.
        charges: the ledger's charges, oldest first.
        period: what ended in it, or was booked in it if there is no record, is looked at.
        log_begins_at_micros: what began before may be in an older log.
    """
    if found is None:
        yield from _unlogged(charges, period, log_begins_at_micros)
        return
    record = found.record
    if record.ended_at_micros not in period:
        yield from _long_after(record, charges, period)
        return
    if found.conflict is not None:
        yield _of_record(
            Kind.TWICE_IN_LOG, record, in_log=f"{_told(record)}; {_told(found.conflict)}"
        )
    if not record.is_recomputable:
        yield _of_record(
            Kind.NOT_RECOMPUTABLE,
            record,
            in_log=f"{record.amount_nanos} nano-USD from {record.exact_cost_pico} pico-USD, "
            f"items add up to {record.items_pico}",
        )
    if not charges:
        yield from _uncharged(record)
        return
    yield from _differences(record, charges[0])
    yield from (_again(charge, record) for charge in charges[1:])


def _long_after(
    record: UsageRecord, charges: Sequence[LedgerCharge], period: Period
) -> Iterator[Finding]:
    """Find what was booked in the period for a completion of another one that had been charged."""
    if record.transaction_id is None:
        return
    for charge in charges:
        if charge.booked_at_micros in period and charge.transaction_id != record.transaction_id:
            yield _again(charge, record)


def _unlogged(
    charges: Sequence[LedgerCharge], period: Period, log_begins_at_micros: int
) -> Iterator[Finding]:
    booked = [charge for charge in charges if charge.booked_at_micros in period]
    for charge in booked[:1]:
        older = charge.began_at_micros < log_begins_at_micros
        yield of_charge(Kind.BEGAN_BEFORE_LOG if older else Kind.NOT_IN_LOG, charge)
    yield from (of_charge(Kind.TWICE_IN_LEDGER, charge) for charge in booked[1:])


def _uncharged(record: UsageRecord) -> Iterator[Finding]:
    if record.status == "free" and record.amount_nanos == 0:
        return
    kind = _UNCHARGED.get(record.status, Kind.NOT_IN_LEDGER)
    yield _of_record(kind, record, in_log=usd_from_nanos(record.amount_nanos))


def _differences(record: UsageRecord, charge: LedgerCharge) -> Iterator[Finding]:
    if record.status not in {"charged", "pending"}:
        yield _of_record(Kind.STATUS_DIFFERS, record, charge, record.status, "charged")
    if record.account != charge.user_id:
        yield _of_record(Kind.ACCOUNT_DIFFERS, record, charge, record.account, charge.user_id)
    yield from _different_amounts(record, charge)
    logged, booked = counts_of(record.usage), counts_of(charge.usage or {})
    if logged != booked:
        names = [n for n in sorted({*logged, *booked}) if logged.get(n) != booked.get(n)]
        yield _of_record(
            Kind.USAGE_DIFFERS, record, charge, _counts(logged, names), _counts(booked, names)
        )
    if charge.shortfall_nanos:
        yield of_charge(Kind.SHORTFALL, charge, nanos=charge.shortfall_nanos)


def _different_amounts(record: UsageRecord, charge: LedgerCharge) -> Iterator[Finding]:
    amounts = [(Kind.AMOUNT_DIFFERS, record.amount_nanos, charge.requested_nanos)]
    if record.status == "charged":
        # What the hold's expiry took before counts towards it, whether the log says so or not.
        if record.charged_nanos != charge.charged_nanos:
            amounts.append((Kind.PAID_DIFFERS, record.charged_nanos, charge.paid_nanos))
        amounts.append((Kind.SHORTFALL_DIFFERS, record.shortfall_nanos, charge.shortfall_nanos))
    for kind, logged, booked in amounts:
        if logged != booked:
            told_usd = (usd_from_nanos(logged), usd_from_nanos(booked))
            yield _of_record(kind, record, charge, *told_usd, nanos=abs(logged - booked))
    exact = charge.exact_cost_picos
    if exact is not None and exact != record.exact_pico:
        yield _of_record(
            Kind.EXACT_COST_DIFFERS, record, charge, record.exact_cost_pico, str(exact)
        )


def _again(charge: LedgerCharge, record: UsageRecord) -> Finding:
    usd = usd_from_nanos(charge.charged_nanos)
    return _of_record(
        Kind.TWICE_IN_LEDGER, record, charge, in_ledger=usd, nanos=charge.charged_nanos
    )


def of_charge(
    kind: Kind,
    charge: LedgerCharge,
    *,
    nanos: int | None = None,
    record: UsageRecord | None = None,
) -> Finding:
    """Make a finding about a charge.

    Args:
        kind: what was found.
        charge: the charge.
        nanos: how much it is about; by default all that was taken.
        record: the record that has to do with it, if one is known.
    """
    nanos = charge.charged_nanos if nanos is None else nanos
    return Finding(
        kind=kind,
        at_micros=charge.booked_at_micros,
        account=charge.user_id,
        nanos=nanos,
        key=charge.key if record is None else record.billing_key,
        completion_id=charge.completion_id if record is None else record.completion_id,
        request_id=charge.request_id if record is None else record.request_id,
        transaction_id=charge.transaction_id,
        hold_id=charge.hold_id,
        in_log=None if record is None else record.status,
        in_ledger=usd_from_nanos(nanos),
    )


def _of_record(
    kind: Kind,
    record: UsageRecord,
    charge: LedgerCharge | None = None,
    in_log: str | None = None,
    in_ledger: str | None = None,
    *,
    nanos: int | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        at_micros=record.ended_at_micros,
        account=record.account,
        nanos=record.amount_nanos if nanos is None else nanos,
        key=record.billing_key,
        completion_id=record.completion_id,
        request_id=record.request_id,
        transaction_id=record.transaction_id if charge is None else charge.transaction_id,
        hold_id=record.hold_id,
        in_log=in_log,
        in_ledger=in_ledger,
    )


def _told(record: UsageRecord) -> str:
    return f"{record.status} {usd_from_nanos(record.amount_nanos)} to {record.account}"


def _counts(counts: dict[str, int], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {counts.get(name, 0)}" for name in names)
