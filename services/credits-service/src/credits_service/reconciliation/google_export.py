"""Google's billing export as CSV: read by the names of its columns.

Three kinds are understood: a report by date and SKU and a cost table, as the console downloads
them, and rows of the BigQuery export. https://cloud.google.com/billing/docs/how-to/cost-table and
https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple
from zoneinfo import ZoneInfo

# Google's billing days.
PACIFIC = ZoneInfo("America/Los_Angeles")

_PREAMBLE_LINES_MAX = 100
_USD = "USD"
_START = ("usage start time", "usage start date", "date", "day", "usage date")
_END = ("usage end date",)
_SERVICE = ("service description", "service")
_SKU = ("sku description", "sku")
_AMOUNT = ("usage amount",)
_UNIT = ("usage unit", "unit")
_COST = ("unrounded subtotal", "unrounded cost", "cost", "subtotal")
_CURRENCY = ("currency",)
_RATE = ("currency conversion rate",)
_CREDIT = ("credit type",)
_PREAMBLE_RATE = "currency exchange rate"

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_SIGN = re.compile(r"\((.+)\)\s*$")
_UNITS_PER_COUNT = {
    "1k tokens": 1_000,
    "1m tokens": 1_000_000,
}
_COUNTS = frozenset({"", "count", "token", "tokens", "query", "queries", "request", "requests"})
_HOURS = frozenset({"hour", "hours", "token hour", "token hours"})


class GoogleExportError(ValueError):
    """The file is no billing export that can be read; the message says where and why."""


class BilledRow(NamedTuple):
    """One row: usage of one SKU.

    Attributes:
        first_day: the first billing day, Pacific time.
        last_day: the last one.
        quantity: how much, in single tokens, queries or token hours; None where the unit is not
            known.
        cost_usd: what it cost; None where the file does not say so in USD.
    """

    first_day: date
    last_day: date
    service: str
    sku: str
    quantity: Decimal | None
    unit: str
    cost_usd: Decimal | None


def billed_rows(lines: Iterable[str]) -> Iterator[BilledRow]:
    """Read an export.

    Args:
        lines: of the file.

    Raises:
        GoogleExportError: it is none, or a row can't be read.
    """
    reader = csv.reader(lines, strict=True)
    try:
        columns, preamble = _header(reader)
        for cells in reader:
            # A quoted text may go over several lines: the reader's count is of lines.
            row = _Row(cells, columns, preamble, f"line {reader.line_num}")
            # Totals and taxes repeat what the rows above say, and have no date.
            if row.text(_START) and row.text(_SKU):
                yield row.read()
    except csv.Error as error:
        raise GoogleExportError(f"line {reader.line_num}: {error}") from None


def _header(reader: Iterator[list[str]]) -> tuple[dict[str, int], dict[str, str]]:
    """Find the row of names; what stands before it are facts about the invoice."""
    preamble: dict[str, str] = {}
    for number, cells in enumerate(reader):
        names = [_name(cell) for cell in cells]
        if any(name in names for name in _SKU):
            columns = {name: place for place, name in reversed([*enumerate(names)])}
            _assert_complete(columns)
            sign = next((_SIGN.search(cells[columns[c]]) for c in _COST if c in columns), None)
            preamble.setdefault("currency", _currency(sign[1] if sign else "$"))
            return columns, preamble
        if len(cells) > 1:
            preamble[names[0]] = cells[1].strip()
        if number >= _PREAMBLE_LINES_MAX:
            break
    raise GoogleExportError(
        "there is no row of column names with 'SKU description' in it. Download a report grouped "
        "by date and SKU (or a cost table) in English, or export rows from BigQuery."
    )


def _assert_complete(columns: Mapping[str, int]) -> None:
    for names, shown in ((_START, "Date, Usage start date"), (_AMOUNT, "Usage amount")):
        if not any(name in columns for name in names):
            raise GoogleExportError(
                f"there is no column {shown!r}; there are: {', '.join(sorted(columns))}"
            )


def _name(cell: str) -> str:
    """Make names alike: ``Usage amount``, ``usage_amount``, ``usage.amount``, ``Cost ($)``."""
    return " ".join(re.findall(r"[a-z0-9]+", _SIGN.sub("", cell.strip("\ufeff").lower())))


def _currency(sign: str) -> str:
    return _USD if sign.strip() in {"$", "US$", _USD} else sign.strip()


class _Row:
    """One row, by the names of its columns."""

    def __init__(
        self, cells: list[str], columns: Mapping[str, int], preamble: Mapping[str, str], place: str
    ) -> None:
        self._cells = cells
        self._columns = columns
        self._preamble = preamble
        self._place = place

    def text(self, names: Iterable[str]) -> str:
        """Return the first of some columns that the file has, or nothing."""
        for name in names:
            place = self._columns.get(name)
            if place is not None:
                return self._cells[place].strip() if place < len(self._cells) else ""
        return ""

    def read(self) -> BilledRow:
        """Read all of it."""
        first = self._day(self.text(_START))
        end = self.text(_END)
        unit = self.text(_UNIT)
        return BilledRow(
            first_day=first,
            last_day=self._day(end) if end else first,
            service=self.text(_SERVICE),
            sku=self.text(_SKU),
            quantity=self._quantity(unit.lower()),
            unit=unit,
            cost_usd=self._cost_usd(),
        )

    def _quantity(self, unit: str) -> Decimal | None:
        # A credit repeats the usage that it is given for.
        if self.text(_CREDIT):
            return Decimal(0)
        amount = self._number(_AMOUNT) or Decimal(0)
        if unit in _COUNTS | _HOURS:
            return amount
        return amount * _UNITS_PER_COUNT[unit] if unit in _UNITS_PER_COUNT else None

    def _cost_usd(self) -> Decimal | None:
        cost = self._number(_COST)
        currency = self.text(_CURRENCY) or self._preamble["currency"]
        if cost is None or currency == _USD:
            return cost
        # Local currency for a US dollar.
        rate = self._number(_RATE) or self._decimal(self._preamble.get(_PREAMBLE_RATE, ""))
        return cost / rate if rate else None

    def _number(self, names: Iterable[str]) -> Decimal | None:
        return self._decimal(self.text(names))

    def _decimal(self, text: str) -> Decimal | None:
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            raise self._wrong(f"{text!r} is no number as the English console writes it")
        try:
            return Decimal(text.replace(",", ""))
        except InvalidOperation:
            raise self._wrong(f"{text!r} is no number") from None

    def _day(self, text: str) -> date:
        """Read a billing day; a moment belongs to the day that it is in Pacific time."""
        try:
            if len(text) == len("2026-01-31"):
                return date.fromisoformat(text)
            moment = datetime.fromisoformat(text.removesuffix("UTC").strip())
        except ValueError:
            raise self._wrong(f"{text!r} is no date such as 2026-01-31") from None
        # BigQuery writes moments in UTC.
        return pacific_day(moment if moment.tzinfo else moment.replace(tzinfo=UTC))

    def _wrong(self, reason: str) -> GoogleExportError:
        return GoogleExportError(f"{self._place}: {reason}")


def pacific_day(moment: datetime) -> date:
    """Return the day that Google bills a moment's usage on."""
    return moment.astimezone(PACIFIC).date()
