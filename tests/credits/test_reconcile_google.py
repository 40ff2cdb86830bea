"""Google's billing export: how its files are read, how its days compare."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credits.reconcile_books import INPUT_SKU, OUTPUT_SKU, record_of_tokens
from credits_service.core.moments import micros_from_datetime
from credits_service.reconciliation.google_compare import (
    BilledUsage,
    GoogleComparison,
    LoggedUsage,
    Sum,
    compare_usage,
    whole_days,
)
from credits_service.reconciliation.google_export import (
    BilledRow,
    GoogleExportError,
    billed_rows,
)
from credits_service.reconciliation.google_sku import ALL_MODELS, Sku
from credits_service.reconciliation.period import Period
from credits_service.reconciliation.usage_log import Item

REPORT = f"""\ufeffDate,Service description,Service ID,SKU description,SKU ID,Usage amount,\
Usage unit,List cost ($),Negotiated savings ($),Savings programs ($),Other savings ($),\
Unrounded subtotal ($),Subtotal ($)
2026-11-10,Gemini API,AEFD-7695-64FA,{INPUT_SKU},399C-32AD-1412,"1,001",count,\
0.00,0.00,0.00,0.00,0.000100,0.00
2026-11-10,Gemini API,AEFD-7695-64FA,{OUTPUT_SKU},399C-32AD-1413,20,count,\
0.00,0.00,0.00,0.00,0.000008,0.00
,,,,,,,,,Subtotal,0.000108,0.00
,,,,,,,,,Tax,0.000000,0.00
,,,,,,,,,Filtered total,0.000108,0.00
"""

COST_TABLE = f"""Invoice number,1
Currency,AUD
Currency exchange rate,1.6
Total amount due,"$1,000.00"
Billing account name,Service description,SKU description,Credit type,Cost type,Usage start date,\
Usage end date,Usage amount,Usage unit,Unrounded Cost ($),Cost ($)
mine,Gemini API,{INPUT_SKU},,Usage,2026-11-01,2026-11-30,"1,001",count,1.6,1.60
mine,Gemini API,{INPUT_SKU},Promotion,Usage,2026-11-01,2026-11-30,"1,001",count,-0.8,-0.80
,,,,Total,,,,,0.8,0.80
"""

BIGQUERY = f"""service.description,sku.description,usage_start_time,usage_end_time,usage.amount,\
usage.unit,cost,currency,currency_conversion_rate
Gemini API,{INPUT_SKU},2026-11-11 07:00:00 UTC,2026-11-11 08:00:00 UTC,600.0,count,0.5,EUR,0.5
Gemini API,{INPUT_SKU},2026-11-11T08:00:00Z,2026-11-11T09:00:00Z,4.01e2,count,0.5,USD,1.0
"""


class TestFiles:
    def test_a_report_by_date_has_totals_that_are_not_counted_twice(self) -> None:
        rows = list(billed_rows(REPORT.splitlines(keepends=True)))
        assert rows == [
            BilledRow(
                date(2026, 11, 10),
                date(2026, 11, 10),
                "Gemini API",
                INPUT_SKU,
                Decimal(1001),
                "count",
                Decimal("0.0001"),
            ),
            BilledRow(
                date(2026, 11, 10),
                date(2026, 11, 10),
                "Gemini API",
                OUTPUT_SKU,
                Decimal(20),
                "count",
                Decimal("0.000008"),
            ),
        ]

    def test_a_cost_table_has_spans_another_currency_and_credits(self) -> None:
        used, credit = billed_rows(COST_TABLE.splitlines(keepends=True))
        assert (used.first_day, used.last_day) == (date(2026, 11, 1), date(2026, 11, 30))
        assert (used.quantity, used.cost_usd) == (Decimal(1001), Decimal(1))
        # A credit repeats the usage: only its money counts.
        assert (credit.quantity, credit.cost_usd) == (Decimal(0), Decimal("-0.5"))

    def test_rows_of_bigquery_have_moments_of_utc(self) -> None:
        before, after = billed_rows(BIGQUERY.splitlines(keepends=True))
        assert (before.first_day, after.first_day) == (date(2026, 11, 10), date(2026, 11, 11))
        assert (before.quantity, after.quantity) == (Decimal(600), Decimal(401))
        assert (before.cost_usd, after.cost_usd) == (Decimal(1), Decimal("0.5"))

    def test_a_currency_without_a_rate_gives_no_cost(self) -> None:
        text = REPORT.replace("($)", "(€)")
        assert {row.cost_usd for row in billed_rows(text.splitlines(keepends=True))} == {None}

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "no row of column names"),
            ("a,b\n1,2\n", "no row of column names"),
            (REPORT.replace("Date,", "Month,"), "no column 'Date"),
            (REPORT.replace("Usage amount", "Menge"), "no column 'Usage amount'"),
            (REPORT.replace('"1,001"', '"1.001,0"'), r"line 2: '1\.001,0' is no number"),
            (REPORT.replace('"1,001"', "NaN"), "line 2: 'NaN' is no number"),
            (REPORT.replace("2026-11-10", "2026-02-30"), "line 2: '2026-02-30' is no date"),
            (REPORT + 'x,"open', "line"),
        ],
    )
    def test_what_cannot_be_read_is_told_with_its_place(self, text: str, why: str) -> None:
        with pytest.raises(GoogleExportError, match=why):
            list(billed_rows(text.splitlines(keepends=True)))


def _moment(text: str) -> int:
    return micros_from_datetime(datetime.fromisoformat(text))


class TestDays:
    @pytest.mark.parametrize(
        ("start", "end", "days"),
        [
            ("2026-11-10T08:00:00+00:00", "2026-11-12T08:00:00+00:00", [10, 11]),
            ("2026-11-10T08:00:00.000001+00:00", "2026-11-12T08:00:00+00:00", [11]),
            ("2026-11-10T08:00:00+00:00", "2026-11-12T07:59:59+00:00", [10]),
            ("2026-11-10T00:00:00+00:00", "2026-11-11T00:00:00+00:00", []),
            # The clocks go back on the first: that day has 25 hours.
            ("2026-11-01T00:00:00-07:00", "2026-11-02T00:00:00-08:00", [1]),
            ("2026-11-01T00:00:00-07:00", "2026-11-02T00:00:00-07:00", []),
        ],
    )
    def test_only_whole_days_of_pacific_time_count(
        self, start: str, end: str, days: list[int]
    ) -> None:
        found = whole_days(Period(_moment(start), _moment(end)))
        assert sorted(found) == [date(2026, 11, day) for day in days]

    @given(
        start=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware
        hours=st.integers(1, 2000),
    )
    def test_whole_days_are_inside_and_no_day_is_missed(self, start: datetime, hours: int) -> None:
        first = start.replace(tzinfo=UTC)
        last = first + timedelta(hours=hours)
        found = whole_days(Period(micros_from_datetime(first), micros_from_datetime(last)))
        assert len(found) >= hours // 25 - 1
        assert all(first.date() - timedelta(days=1) <= day <= last.date() for day in found)


def _logged(*records: tuple[str, int], aliases: Mapping[str, str] | None = None) -> LoggedUsage:
    logged = LoggedUsage(aliases or {})
    for moment, input_tokens in records:
        logged.add(record_of_tokens("c", input_tokens, 0, ended_at=datetime.fromisoformat(moment)))
    return logged


def _billed(*rows: tuple[int, int, int], sku: str = INPUT_SKU) -> BilledUsage:
    billed = BilledUsage()
    for first, last, quantity in rows:
        days = (date(2026, 11, first), date(2026, 11, last))
        billed.add(BilledRow(*days, "Gemini API", sku, Decimal(quantity), "count", Decimal("0.5")))
    return billed


NOVEMBER = Period(_moment("2026-11-01T00:00:00-07:00"), _moment("2026-12-01T00:00:00-08:00"))
TWO_DAYS = Period(_moment("2026-11-10T08:00:00+00:00"), _moment("2026-11-12T08:00:00+00:00"))


def _quantities(found: GoogleComparison) -> list[tuple[int, str, int, int]]:
    return [
        (line.first_day.day, line.sku.kind, int(line.log.quantity), int(line.google.quantity))
        for line in found.lines
    ]


class TestComparison:
    def test_records_go_to_the_day_that_it_was_in_california(self) -> None:
        logged = _logged(
            ("2026-11-10T07:59:59+00:00", 1),
            ("2026-11-10T08:00:00+00:00", 10),
            ("2026-11-11T07:59:59+00:00", 20),
            ("2026-11-11T08:00:00+00:00", 100),
        )
        found = compare_usage(logged, _billed((10, 10, 30), (11, 11, 101)), TWO_DAYS)
        assert _quantities(found) == [(10, "input", 30, 30), (11, "input", 100, 101)]
        (line,) = found.beyond(Decimal(0))
        assert (int(line.difference), line.first_day.day) == (1, 11)
        assert found.beyond(Decimal("0.9"))
        assert found.beyond(Decimal(1)) == []
        assert line.log.cost_usd == Decimal("0.00001")

    def test_usage_that_only_one_side_knows_is_a_line(self) -> None:
        logged = _logged(("2026-11-10T12:00:00+00:00", 5))
        found = compare_usage(logged, _billed((10, 10, 7), sku=OUTPUT_SKU), TWO_DAYS)
        assert _quantities(found) == [(10, "input", 5, 0), (10, "output", 0, 7)]
        assert [line.percent for line in found.lines] == [100, 100]

    def test_days_that_one_side_has_not_are_named_and_not_compared(self) -> None:
        logged = _logged(("2026-11-10T12:00:00+00:00", 5), ("2026-11-11T12:00:00+00:00", 5))
        found = compare_usage(logged, _billed((9, 9, 3), (10, 10, 5)), TWO_DAYS)
        assert _quantities(found) == [(10, "input", 5, 5)]
        assert found.days_left_out == [date(2026, 11, 9)]
        assert found.days_not_in_export == [date(2026, 11, 11)]

    def test_rows_of_a_month_are_compared_as_a_whole(self) -> None:
        logged = _logged(("2026-11-02T12:00:00+00:00", 5), ("2026-12-01T07:00:00+00:00", 6))
        billed = _billed((1, 30, 10), (3, 4, 1))
        found = compare_usage(logged, billed, NOVEMBER)
        assert [(line.first_day.day, line.last_day.day) for line in found.lines] == [(1, 30)]
        assert _quantities(found) == [(1, "input", 11, 11)]
        with pytest.raises(GoogleExportError, match="not by day"):
            compare_usage(logged, billed, TWO_DAYS)

    def test_a_bill_of_another_time_is_refused(self) -> None:
        with pytest.raises(GoogleExportError, match="no such day"):
            compare_usage(_logged(), _billed((20, 20, 1)), TWO_DAYS)
        with pytest.raises(GoogleExportError, match="no usage of the Gemini API"):
            compare_usage(_logged(), BilledUsage(), TWO_DAYS)

    def test_what_is_not_understood_is_listed_with_its_cost(self) -> None:
        billed = _billed((10, 10, 1))
        day = date(2026, 11, 10)
        for service, sku, unit in (
            ("Gemini API", "Something new", "count"),
            ("Gemini API", "Something new", "count"),
            ("Gemini API", INPUT_SKU, "furlong"),
            ("Compute Engine", "E2 Core", "hour"),
        ):
            known = None if unit == "furlong" else Decimal(2)
            billed.add(BilledRow(day, day, service, sku, known, unit, Decimal("1.5")))
        found = compare_usage(_logged(), billed, TWO_DAYS)
        assert [(each.sku, each.unit, each.quantity, each.cost_usd) for each in found.unknown] == [
            (INPUT_SKU, "furlong", Decimal(0), Decimal("1.5")),
            ("Something new", "count", Decimal(4), Decimal(3)),
        ]
        assert [each.sku for each in found.other_services] == ["E2 Core"]
        assert len(found.lines) == 1

    def test_kinds_that_google_does_not_tell_apart_are_added_up(self) -> None:
        logged = LoggedUsage({"gemini-flash-latest": "gemini-3.6-flash"})
        items = [
            Item("output", 3, "token", 1),
            Item("thinking", 4, "token", 1),
            Item("search", 2, "query", 1),
            Item("input_other", 5, "token", 1),
        ]
        logged.add(record_of_tokens(items=items, model="gemini-flash-latest", service_tier="flex"))
        logged.add(record_of_tokens(items=items[2:3], service_tier=""))
        sums = {sku: found.quantity for (_day, sku), found in logged.sums.items()}
        assert sums == {
            Sku("gemini-3.6-flash", "flex", "output"): 7,
            Sku("gemini-3.6-flash", "flex", "input"): 5,
            Sku(ALL_MODELS, "standard", "search"): 4,
        }

    def test_a_cost_that_one_part_has_not_is_the_others(self) -> None:
        some = Sum().plus(Decimal(1), None).plus(Decimal(2), Decimal("0.5"))
        assert some == Sum(Decimal(3), Decimal("0.5"))
        assert Sum().plus(Decimal(1), None).cost_usd is None
