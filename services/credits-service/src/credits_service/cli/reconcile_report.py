"""How a reconciliation is shown: tables for people, one document for scripts."""

from datetime import date
from decimal import Decimal
from typing import Any

from credits_service.cli.failures import Json
from credits_service.cli.output import Output
from credits_service.cli.reconcile_work import Reconciliation, Total
from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.reconciliation.google_compare import GoogleComparison, Line, Unread

_USD_DIGITS = Decimal("0.000001")
_PERCENT_DIGITS = Decimal("0.001")
_FIGURES = frozenset(
    {"count", "usd", "log", "google", "difference", "percent", "log usd", "google usd", "quantity"}
)


def document_of(done: Reconciliation, tolerance_percent: Decimal) -> Json:
    """Write it for scripts."""
    google = None if done.google is None else _google_document(done.google, tolerance_percent)
    return {
        "ok": not done.differences and (google is None or google["ok"]),
        "from": rfc3339(done.period.from_micros),
        "to": rfc3339(done.period.to_micros),
        "log": {**_total(done.logged), "by_status": dict(sorted(done.statuses.items()))},
        "matched": _total(done.matched),
        "other_charges": _total(done.others),
        "differences": done.differences,
        "totals": {kind: _total(total) for kind, total in sorted(done.kinds.items())},
        "findings": [finding.document() for finding in done.shown],
        "findings_left_out": done.findings - len(done.shown),
        "google": google,
    }


def _total(total: Total) -> Json:
    return {"count": total.count, "usd": usd_from_nanos(total.nanos)}


def _google_document(google: GoogleComparison, tolerance_percent: Decimal) -> Json:
    beyond = set(google.beyond(tolerance_percent))
    return {
        "ok": not beyond and not google.unknown,
        "tolerance_percent": str(tolerance_percent),
        "lines": [{**_line(line), "ok": line not in beyond} for line in google.lines],
        "unknown_skus": [_unread(unread) for unread in google.unknown],
        "other_services": [_unread(unread) for unread in google.other_services],
        "days_left_out": [day.isoformat() for day in google.days_left_out],
        "days_not_in_export": [day.isoformat() for day in google.days_not_in_export],
    }


def _line(line: Line) -> Json:
    return {
        "day": _days(line),
        "model": line.sku.model,
        "service_tier": line.sku.tier,
        "kind": line.sku.kind,
        "log": _quantity(line.log.quantity),
        "google": _quantity(line.google.quantity),
        "difference": _quantity(line.difference),
        "percent": str(line.percent.quantize(_PERCENT_DIGITS)),
        "log_usd": _usd(line.log.cost_usd),
        "google_usd": _usd(line.google.cost_usd),
    }


def _unread(unread: Unread) -> Json:
    return {
        "service": unread.service,
        "sku": unread.sku,
        "unit": unread.unit,
        "quantity": None if unread.quantity is None else _quantity(unread.quantity),
        "google_usd": _usd(unread.cost_usd),
    }


def _days(line: Line) -> str:
    first, last = line.first_day.isoformat(), line.last_day.isoformat()
    return first if first == last else f"{first}/{last}"


def _quantity(quantity: Decimal) -> str:
    return f"{quantity.normalize():f}"


def _usd(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd.quantize(_USD_DIGITS):f}"


def show(output: Output, done: Reconciliation, tolerance_percent: Decimal) -> None:
    """Write it for people."""
    _show_totals(output, done)
    if done.shown:
        _show_findings(output, done)
    if done.google is not None:
        _show_google(output, done.google, tolerance_percent)


def _show_totals(output: Output, done: Reconciliation) -> None:
    by_status = ", ".join(f"{count:,} {status}" for status, count in sorted(done.statuses.items()))
    output.facts(
        f"Usage log and ledger, {rfc3339(done.period.from_micros)} to "
        f"{rfc3339(done.period.to_micros)}",
        [
            ("in the log", f"{_amount(done.logged)} ({by_status or 'none'})"),
            ("of these charged in the ledger", _amount(done.matched)),
            ("other backends' charges", _amount(done.others)),
        ],
    )
    output.line("")
    if done.kinds:
        rows = [
            [
                "DIFFERENCE" if kind.is_difference else "told apart",
                kind.value,
                total.count,
                usd_from_nanos(total.nanos),
                kind.meaning,
            ]
            for kind, total in sorted(
                done.kinds.items(), key=lambda item: (not item[0].is_difference, item[0])
            )
        ]
        output.table(["", "kind", "count", "usd", "meaning"], rows, right=_FIGURES)
    output.line(
        f"{done.differences:,} differences between the log and the ledger."
        if done.differences
        else "The log and the ledger agree."
    )


def _show_findings(output: Output, done: Reconciliation) -> None:
    output.line("")
    columns = ("kind", "at", "account", "usd", "in_log", "in_ledger", "key", "transaction_id")
    documents = (finding.document() for finding in done.shown)
    rows = ([document.get(column) for column in columns] for document in documents)
    output.table(columns, rows, right=_FIGURES)
    left_out = done.findings - len(done.shown)
    if left_out:
        output.line(f"{left_out:,} more: --findings FILE writes all of them, --limit shows more.")


def _show_google(output: Output, google: GoogleComparison, tolerance_percent: Decimal) -> None:
    beyond = set(google.beyond(tolerance_percent))
    output.line("")
    rows = [[*_cells(line), "DIFFERS" if line in beyond else "ok"] for line in google.lines]
    output.table(
        [
            "day (Pacific)",
            "model",
            "tier",
            "kind",
            "log",
            "google",
            "difference",
            "percent",
            "log usd",
            "google usd",
            "",
        ],
        rows,
        right=_FIGURES,
    )
    for title, unread in (
        ("SKUs of the Gemini API that are not known, not compared", google.unknown),
        ("Other services in the bill, not compared", google.other_services),
    ):
        if unread:
            output.line("")
            output.line(f"{title}:")
            cells = [list(_unread(each).values()) for each in unread]
            columns = ["service", "sku", "unit", "quantity", "google usd"]
            output.table(columns, cells, right=_FIGURES)
    _show_days(output, "Not wholly in the period, not compared", google.days_left_out)
    _show_days(output, "Not in Google's export, not compared", google.days_not_in_export)
    output.line(
        f"{len(beyond):,} lines differ by more than {tolerance_percent} %, "
        f"{len(google.unknown):,} SKUs are not known."
        if beyond or google.unknown
        else "The log and Google's bill agree."
    )


def _cells(line: Line) -> list[Any]:
    return list(_line(line).values())


def _show_days(output: Output, title: str, days: list[date]) -> None:
    if days:
        output.line(f"{title}: {', '.join(day.isoformat() for day in days)}")


def _amount(total: Total) -> str:
    return f"{total.count:,}, {usd_from_nanos(total.nanos)} USD"
