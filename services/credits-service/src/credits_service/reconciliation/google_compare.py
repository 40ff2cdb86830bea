"""Usage by day, model, service tier and kind: the log's beside Google's."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from credits_service.core.moments import micros_from_datetime
from credits_service.reconciliation.google_export import (
    PACIFIC,
    BilledRow,
    GoogleExportError,
    pacific_day,
)
from credits_service.reconciliation.google_sku import (
    ALL_MODELS,
    STANDARD_TIER,
    Sku,
    billed_model,
    sku_of,
)
from credits_service.reconciliation.period import Period
from credits_service.reconciliation.usage_log import Item, UsageRecord

_LOOKUPS = frozenset({"search", "maps"})
# Google has no SKU of its own for them.
_KINDS = {"thinking": "output", "input_other": "input", "output_other": "output"}
_STANDARD_NAMES = frozenset({"", "default", "unspecified"})
_GEMINI_SERVICES = ("gemini", "generative language")
_PICOS_PER_USD = 10**12
_DAY = timedelta(days=1)


class Sum(NamedTuple):
    """How much of something, and what it cost; None where that is not known."""

    quantity: Decimal = Decimal(0)
    cost_usd: Decimal | None = None

    def plus(self, quantity: Decimal, cost_usd: Decimal | None) -> "Sum":
        """Return the sum with some more."""
        known = [cost for cost in (self.cost_usd, cost_usd) if cost is not None]
        return Sum(self.quantity + quantity, sum(known, Decimal(0)) if known else None)


class Line(NamedTuple):
    """What log and bill say of one thing on one day, or in one span of days."""

    first_day: date
    last_day: date
    sku: Sku
    log: Sum
    google: Sum

    @property
    def difference(self) -> Decimal:
        """How much more Google counts."""
        return self.google.quantity - self.log.quantity

    @property
    def percent(self) -> Decimal:
        """The difference as a part of the larger count; 0 where nothing was used."""
        larger = max(abs(self.google.quantity), abs(self.log.quantity))
        return abs(self.difference) * 100 / larger if larger else Decimal(0)


class Unread(NamedTuple):
    """A SKU that was not compared."""

    service: str
    sku: str
    unit: str
    quantity: Decimal | None
    cost_usd: Decimal | None


class GoogleComparison(NamedTuple):
    """The whole comparison.

    Attributes:
        lines: what was compared.
        unknown: SKUs of the Gemini API that it is not known how to compare.
        other_services: SKUs of other services.
        days_left_out: days of the bill that are not wholly in the period.
        days_not_in_export: whole days of the period that the bill does not cover.
    """

    lines: list[Line]
    unknown: list[Unread]
    other_services: list[Unread]
    days_left_out: list[date]
    days_not_in_export: list[date]

    def beyond(self, tolerance_percent: Decimal) -> list[Line]:
        """Return the lines that differ by more than this."""
        return [line for line in self.lines if line.percent > tolerance_percent]


class LoggedUsage:
    """Adds up the log's records by billing day.

    Args:
        aliases: what moving model names stood for.
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._aliases = aliases
        self.sums: dict[tuple[date, Sku], Sum] = {}

    def add(self, record: UsageRecord) -> None:
        """Take a record into account, whether it was charged or not: Google charges for it."""
        day = pacific_day(record.ended_at)
        for item in record.items:
            key = (day, self._sku(record, item))
            usd = Decimal(item.cost_pico) / _PICOS_PER_USD
            self.sums[key] = self.sums.get(key, Sum()).plus(Decimal(item.quantity), usd)

    def _sku(self, record: UsageRecord, item: Item) -> Sku:
        # Google does not tell which model looked something up.
        if item.kind in _LOOKUPS:
            return Sku(ALL_MODELS, STANDARD_TIER, item.kind)
        model = billed_model(record.model, self._aliases)
        tier = STANDARD_TIER if record.service_tier in _STANDARD_NAMES else record.service_tier
        return Sku(model, tier, _KINDS.get(item.kind, item.kind))


class BilledUsage:
    """Adds up the rows of Google's export."""

    def __init__(self) -> None:
        self.sums: dict[tuple[date, date, Sku], Sum] = {}
        self._unknown: dict[tuple[str, str, str], Sum] = {}
        self._others: dict[tuple[str, str, str], Sum] = {}

    def add(self, row: BilledRow) -> None:
        """Take a row into account."""
        name = (row.service, row.sku, row.unit)
        amount = (row.quantity or Decimal(0), row.cost_usd)
        if row.service and not any(word in row.service.lower() for word in _GEMINI_SERVICES):
            self._others[name] = self._others.get(name, Sum()).plus(*amount)
            return
        sku = sku_of(row.sku)
        if sku is None or row.quantity is None:
            self._unknown[name] = self._unknown.get(name, Sum()).plus(*amount)
            return
        key = (row.first_day, row.last_day, sku)
        self.sums[key] = self.sums.get(key, Sum()).plus(*amount)

    @property
    def unknown(self) -> list[Unread]:
        """The SKUs of the Gemini API whose meaning or unit is not known."""
        return _unread(self._unknown)

    @property
    def others(self) -> list[Unread]:
        """The SKUs of other services."""
        return _unread(self._others)


def _unread(sums: Mapping[tuple[str, str, str], Sum]) -> list[Unread]:
    return [Unread(*name, found.quantity, found.cost_usd) for name, found in sorted(sums.items())]


def compare_usage(logged: LoggedUsage, billed: BilledUsage, period: Period) -> GoogleComparison:
    """Set the log's usage beside Google's.

    Only days that are wholly in the period are compared. An export whose rows are of several
    days, as a cost table's are, is compared as one span.

    Raises:
        GoogleExportError: nothing of the export is wholly in the period.
    """
    days = whole_days(period)
    spans = [(first, last) for first, last, _sku in billed.sums]
    if not spans:
        raise GoogleExportError("there is no usage of the Gemini API in it")
    begin, end = min(first for first, _ in spans), max(last for _, last in spans)
    covered = _days_between(begin, end)
    if any(first != last for first, last in spans):
        if not covered <= days:
            raise GoogleExportError(
                f"its rows are not by day, and it goes from {begin} to {end} in Pacific time: "
                "--from and --to must cover all of these days"
            )
        days_as = dict.fromkeys(covered, (begin, end))
    else:
        days_as = {day: (day, day) for day in covered & days}
    if not days_as:
        raise GoogleExportError(
            f"it goes from {begin} to {end} in Pacific time: no such day is wholly between --from "
            "and --to"
        )
    return GoogleComparison(
        lines=_lines(logged, billed, days_as),
        unknown=billed.unknown,
        other_services=billed.others,
        days_left_out=sorted({first for first, _ in spans} - days_as.keys()),
        days_not_in_export=sorted(days - covered),
    )


def _lines(
    logged: LoggedUsage, billed: BilledUsage, days_as: Mapping[date, tuple[date, date]]
) -> list[Line]:
    log, google = (
        _by_span(sums, days_as)
        for sums in (
            ((day, sku, found) for (day, sku), found in logged.sums.items()),
            ((day, sku, found) for (day, _, sku), found in billed.sums.items()),
        )
    )
    return [
        Line(*span, sku, log.get((span, sku), Sum()), google.get((span, sku), Sum()))
        for span, sku in sorted(log.keys() | google.keys())
    ]


_Span = tuple[date, date]


def _by_span(
    sums: Iterable[tuple[date, Sku, Sum]], days_as: Mapping[date, _Span]
) -> dict[tuple[_Span, Sku], Sum]:
    found: dict[tuple[_Span, Sku], Sum] = {}
    for day, sku, part in sums:
        if day in days_as:
            key = (days_as[day], sku)
            found[key] = found.get(key, Sum()).plus(*part)
    return found


def whole_days(period: Period) -> set[date]:
    """Return Google's billing days that lie wholly in a period."""
    first = _pacific_day_at(period.from_micros)
    if _begin_micros(first) < period.from_micros:
        first += _DAY
    last = _pacific_day_at(period.to_micros) - _DAY
    return _days_between(first, last)


def _pacific_day_at(micros: int) -> date:
    return pacific_day(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros))


def _begin_micros(day: date) -> int:
    return micros_from_datetime(datetime(day.year, day.month, day.day, tzinfo=PACIFIC))


def _days_between(first: date, last: date) -> set[date]:
    return {first + _DAY * number for number in range((last - first).days + 1)}
