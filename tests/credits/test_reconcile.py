"""Records set against charges: each planted difference is found and named, and nothing else."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credits.reconcile_books import ENDED_AT, charge_for, line_of, record_of_tokens
from credits_service.core.ids import lowest_id, made_at_micros, new_id
from credits_service.core.moments import micros_from_datetime
from credits_service.reconciliation.compare import compare, resolved
from credits_service.reconciliation.findings import Finding, Kind
from credits_service.reconciliation.ledger_charges import LedgerCharge, charge_of
from credits_service.reconciliation.period import Period
from credits_service.reconciliation.usage_log import UsageLogError, UsageRecord, record_of

NOON_MICROS = micros_from_datetime(ENDED_AT)
DAY_MICROS = 86_400_000_000
PERIOD = Period(NOON_MICROS - DAY_MICROS // 2, NOON_MICROS + DAY_MICROS // 2)

Books = tuple[list[UsageRecord], list[LedgerCharge]]
Plant = Callable[[UsageRecord], Books]


def _found(
    records: Sequence[UsageRecord], charges: Sequence[LedgerCharge], log_begins_at_micros: int = 0
) -> list[Finding]:
    found = resolved(records) if records else None
    begins = log_begins_at_micros
    return list(compare(found, charges, period=PERIOD, log_begins_at_micros=begins))


def _record(**changes: Any) -> Plant:
    """Change the record after it was charged."""

    def plant(record: UsageRecord) -> Books:
        return [msgspec.structs.replace(record, **changes)], [charge_for(record)]

    return plant


def _charge(**changes: Any) -> Plant:
    return lambda record: ([record], [charge_for(record, **changes)])


def _uncharged(status: str) -> Plant:
    return lambda record: (
        [msgspec.structs.replace(record, status=status, transaction_id=None)],
        [],
    )


def _contradicting(record: UsageRecord) -> Books:
    other = msgspec.structs.replace(record, account="bob")
    return [record, other], [charge_for(record)]


def _twice(record: UsageRecord) -> Books:
    return [record], [charge_for(record), charge_for(record, transaction_id="tx-again")]


def _wrong_items(record: UsageRecord) -> Books:
    first, *others = record.items
    items = [msgspec.structs.replace(first, quantity=first.quantity + 1), *others]
    return [msgspec.structs.replace(record, items=items)], [charge_for(record)]


def _short(record: UsageRecord) -> Books:
    """The account had a nano-USD less than the completion cost, and both sides say so."""
    short = {"charged": record.amount - Decimal("1e-9"), "shortfall": Decimal("1e-9")}
    charge = charge_for(record, charged_nanos=record.amount_nanos - 1, shortfall_nanos=1)
    return [msgspec.structs.replace(record, **short)], [charge]


def _hold_made_at(micros: int) -> str:
    lowest = lowest_id(micros)
    return f"{lowest[:14]}7{lowest[15:19]}8{lowest[20:]}"


def _older(record: UsageRecord) -> Books:
    return [], [charge_for(record, hold_id=_hold_made_at(PERIOD.from_micros - DAY_MICROS))]


PLANTS: dict[Kind | None, Plant] = {
    None: _record(),
    Kind.NOT_IN_LEDGER: lambda record: ([record], []),
    Kind.NOT_IN_LOG: lambda record: ([], [charge_for(record)]),
    Kind.AMOUNT_DIFFERS: _charge(requested_nanos=1),
    Kind.PAID_DIFFERS: _charge(charged_nanos=1),
    Kind.SHORTFALL_DIFFERS: _record(shortfall=Decimal("0.5")),
    Kind.EXACT_COST_DIFFERS: _charge(exact_cost_picos=1),
    Kind.USAGE_DIFFERS: _charge(usage={"prompt_tokens": 7}),
    Kind.ACCOUNT_DIFFERS: _charge(user_id="bob"),
    Kind.STATUS_DIFFERS: _record(status="refused"),
    Kind.TWICE_IN_LEDGER: _twice,
    Kind.TWICE_IN_LOG: _contradicting,
    Kind.NOT_RECOMPUTABLE: _wrong_items,
    Kind.PENDING: _uncharged("pending"),
    Kind.REFUSED: _uncharged("refused"),
    Kind.NOT_BILLED: _uncharged("not_billed"),
    Kind.SHORTFALL: _short,
    Kind.BEGAN_BEFORE_LOG: _older,
}


def test_each_kind_but_expired_holds_is_planted_somewhere() -> None:
    # Expired holds are found by the command, see test_reconcile_command.py.
    assert PLANTS.keys() - {None} == set(Kind) - {Kind.EXPIRED_HOLD}
    assert all(kind.meaning for kind in Kind)


@pytest.mark.parametrize("kind", PLANTS)
@given(input_tokens=st.integers(11, 10**9), output_tokens=st.integers(0, 10**6))
@settings(max_examples=20)
def test_what_is_planted_is_found_and_nothing_else(
    kind: Kind | None, input_tokens: int, output_tokens: int
) -> None:
    record = record_of_tokens("chatcmpl-x", input_tokens, output_tokens)
    records, charges = PLANTS[kind](record)
    # The log given begins with the period.
    found = _found(records, charges, PERIOD.from_micros)
    assert [finding.kind for finding in found] == ([] if kind is None else [kind])
    for finding in found:
        assert finding.key == "chatcmpl-x"
        assert finding.nanos > 0


def test_a_finding_says_both_values_and_where_to_look() -> None:
    record = record_of_tokens()
    (finding,) = _found([record], [charge_for(record, usage={"prompt_tokens": 7})])
    assert (finding.in_log, finding.in_ledger) == (
        "candidates_tokens 20, prompt_tokens 1001",
        "candidates_tokens 0, prompt_tokens 7",
    )
    assert finding.request_id == "req-chatcmpl-1"
    assert finding.transaction_id == "tx-chatcmpl-1"
    (amount,) = _found([record], [charge_for(record, requested_nanos=1)])
    assert (amount.in_log, amount.in_ledger) == ("0.0001081", "0.000000001")
    assert amount.nanos == record.amount_nanos - 1


def test_each_charge_too_many_is_told() -> None:
    record = record_of_tokens()
    again = [charge_for(record, transaction_id=f"tx-{number}") for number in range(3)]
    assert [f.transaction_id for f in _found([record], again)] == ["tx-1", "tx-2"]
    unlogged = _found([], again)
    assert [f.kind for f in unlogged] == [Kind.NOT_IN_LOG, *[Kind.TWICE_IN_LEDGER] * 2]


class TestWhatIsNoDifference:
    def test_overlapping_exports_have_the_same_record_twice(self) -> None:
        record = record_of_tokens()
        assert _found([record, record], [charge_for(record)]) == []

    def test_an_older_export_still_calls_a_charge_pending(self) -> None:
        record = record_of_tokens()
        pending = msgspec.structs.replace(record, status="pending", transaction_id=None)
        assert _found([pending, record], [charge_for(record)]) == []
        assert _found([pending], [charge_for(record)]) == []

    def test_a_free_completion_has_no_charge(self) -> None:
        free = record_of_tokens(
            items=[], exact_cost_pico="0", amount=Decimal(0), charged=Decimal(0), status="free"
        )
        assert _found([free], []) == []
        # With a cost it should have had one.
        assert [f.kind for f in _found([record_of_tokens(status="free")], [])] == [
            Kind.NOT_IN_LEDGER
        ]

    @pytest.mark.parametrize("told", [Decimal("0.0001081"), Decimal("0.0001080")])
    def test_what_an_expired_hold_paid_before_counts(self, told: Decimal) -> None:
        record = record_of_tokens(charged=told)
        charge = charge_for(
            record, charged_nanos=record.amount_nanos - 100, settled_before_nanos=100
        )
        assert _found([record], [charge]) == []

    def test_what_ended_in_another_period_is_told_there(self) -> None:
        late = record_of_tokens(ended_at=ENDED_AT + timedelta(days=1))
        assert _found([late], []) == []
        before = charge_for(late, booked_at_micros=PERIOD.from_micros - 1)
        assert _found([], [before]) == []

    def test_the_period_has_its_beginning_and_not_its_end(self) -> None:
        assert PERIOD.from_micros in PERIOD
        assert PERIOD.to_micros not in PERIOD
        assert PERIOD.from_micros - 1 in PERIOD.widened(1)


ROW: dict[str, Any] = {
    "id": "tx",
    "user_id": "ann",
    "amount_nanos": -7,
    "booked_at_micros": 5,
    "requested_nanos": 9,
    "settled_before_nanos": 1,
    "shortfall_nanos": 1,
    "hold_id": "hold",
    "usage": '{"prompt_tokens":3}',
    "metadata": '{"completion_id":"chatcmpl-9","request_id":"req-9"}',
    "exact_cost_picos": "6999",
    "idempotency_key": "settle-chatcmpl-9-2",
    "details": '{"end":"captured"}',
}


@pytest.mark.parametrize(
    ("changes", "origin", "key"),
    [
        ({}, "proxy", "chatcmpl-9-2"),
        ({"idempotency_key": None}, "proxy", "chatcmpl-9"),
        (
            {"idempotency_key": "mine", "metadata": '{"completion_id":"c","attempt":2}'},
            "proxy",
            "c-2",
        ),
        ({"metadata": None}, "other", None),
        ({"metadata": '{"completion_id":7}'}, "other", None),
        ({"metadata": None, "usage": None, "details": '{"end":"expired"}'}, "expired_hold", None),
    ],
)
def test_a_charge_tells_what_it_is_for(
    changes: dict[str, Any], origin: str, key: str | None
) -> None:
    charge = charge_of({**ROW, **changes})
    assert (charge.origin, charge.key) == (origin, key)
    assert (charge.charged_nanos, charge.paid_nanos, charge.exact_cost_picos) == (7, 8, 6999)


def test_a_charge_began_when_its_credit_was_held() -> None:
    held_at = 1_800_000_000_000_000
    assert charge_of({**ROW, "hold_id": _hold_made_at(held_at)}).began_at_micros == held_at
    # A version 4 identifier tells no time.
    other = "00000000-0000-4000-8000-000000000000"
    assert charge_of({**ROW, "hold_id": other}).began_at_micros == 5
    hold_id = new_id()
    made_at = made_at_micros(hold_id)
    assert made_at is not None
    assert lowest_id(made_at) <= hold_id < lowest_id(made_at + 1_000)
    assert charge_of({**ROW, "hold_id": hold_id}).began_at_micros == made_at
    assert charge_of({**ROW, "hold_id": None}).began_at_micros == 5


class TestLines:
    def test_a_record_survives_its_export(self) -> None:
        record = record_of_tokens()
        assert record_of(line_of(record)) == record

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"amount": "lots"}, "amount"),
            ({"amount": "-1"}, "greater than 0"),
            ({"amount": "1e999999999"}, "at most"),
            ({"amount": "0.0000000001"}, "fraction digits"),
            ({"ended_at": "2026-11-10T12:00:00"}, "timezone"),
            ({"status": "maybe"}, "status"),
            ({"exact_cost_pico": "1.5"}, "exact_cost_pico"),
            ({"items": [{"kind": "input"}]}, "quantity"),
        ],
    )
    def test_a_line_that_is_no_record_is_refused(self, changes: dict[str, Any], why: str) -> None:
        line = msgspec.json.encode(msgspec.json.decode(line_of(record_of_tokens())) | changes)
        with pytest.raises(UsageLogError, match=why):
            record_of(line)

    @pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b'{"completion_id":"x"}'])
    def test_something_else_is_refused(self, line: bytes) -> None:
        with pytest.raises(UsageLogError):
            record_of(line)


def test_a_charge_that_is_booked_again_in_a_later_period_is_found_there() -> None:
    """An outbox that was restored after the ledger forgot its keys, for one."""
    earlier = record_of_tokens(ended_at=ENDED_AT - timedelta(days=30), transaction_id="tx-first")
    own = charge_for(earlier, transaction_id="tx-first")
    again = charge_for(earlier, transaction_id="tx-again", booked_at_micros=NOON_MICROS)

    findings = _found([earlier], [own, again])

    assert [(found.kind, found.transaction_id) for found in findings] == [
        (Kind.TWICE_IN_LEDGER, "tx-again")
    ]
    assert _found([earlier], [own]) == []
