"""What `credits reconcile` does; apart from the command, as its libraries load slowly."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from credits_service.cli.database import reading, run
from credits_service.cli.failures import CommandError, refused, usage
from credits_service.cli.reconcile_files import google_rows, log_records
from credits_service.cli.reconcile_workspace import Group, Workspace, workspace
from credits_service.cli.session import Session
from credits_service.db.charges import charges_of_period, charges_with_ids
from credits_service.db.progress import Report
from credits_service.reconciliation.compare import compare, of_charge, resolved
from credits_service.reconciliation.findings import Finding, Kind
from credits_service.reconciliation.google_compare import (
    BilledUsage,
    GoogleComparison,
    LoggedUsage,
    compare_usage,
)
from credits_service.reconciliation.google_export import GoogleExportError
from credits_service.reconciliation.period import Period

_REPORT_EVERY = 1000
_IDS_PER_QUERY = 500


class Task(msgspec.Struct, frozen=True):
    """What is to be compared.

    Attributes:
        usage: files of the proxies' usage logs.
        google: Google's billing export, if that is to be compared too.
        period: which completions, by when they ended.
        margin_hours: how far around the period the ledger is read.
        aliases: what moving model names stood for at Google.
        shown_max: how many findings are kept to be shown.
        findings: a new file for all of them.
    """

    usage: Sequence[Path]
    google: Path | None
    period: Period
    margin_hours: int
    aliases: Mapping[str, str]
    shown_max: int
    findings: Path | None


@dataclass
class Total:
    """How many, and how much in nano-USD."""

    count: int = 0
    nanos: int = 0

    def add(self, nanos: int) -> None:
        """Count one more."""
        self.count += 1
        self.nanos += nanos


@dataclass
class Reconciliation:
    """What was compared, and what was found.

    Attributes:
        period: what was looked at.
        statuses: the log's records in the period by their status.
        logged: the log's records in the period.
        matched: those that the ledger has a charge for; with what was paid.
        others: the ledger's charges in the period that are for no completion.
        kinds: all that was found.
        shown: the first of it.
        google: the comparison with Google's bill.
    """

    period: Period
    statuses: Counter[str] = field(default_factory=Counter)
    logged: Total = field(default_factory=Total)
    matched: Total = field(default_factory=Total)
    others: Total = field(default_factory=Total)
    kinds: dict[Kind, Total] = field(default_factory=dict)
    shown: list[Finding] = field(default_factory=list)
    google: GoogleComparison | None = None

    @property
    def differences(self) -> int:
        """How often log and ledger do not agree."""
        return sum(total.count for kind, total in self.kinds.items() if kind.is_difference)

    @property
    def findings(self) -> int:
        """How much was found, with what is only told apart."""
        return sum(total.count for total in self.kinds.values())


def reconciled(session: Session, task: Task) -> Reconciliation:
    """Compare.

    Raises:
        CommandError: a file or the ledger can't be read.
    """
    # Before all else: it may be wrong, and is read in a moment.
    billed = None if task.google is None else _billed(task.google)
    with (
        workspace() as work,
        _written(task.findings) as write,
        session.output.progress() as report,
    ):
        begins_at_micros = _read_log(work, task.usage, report)
        others = run(_read_ledger(work, task, report))
        done = Reconciliation(task.period, others=others)
        logged = LoggedUsage(task.aliases)
        for finding in _found(work, done, logged, begins_at_micros, report):
            done.kinds.setdefault(finding.kind, Total()).add(finding.nanos)
            write(finding)
            if len(done.shown) < task.shown_max:
                done.shown.append(finding)
    if billed is not None:
        try:
            done.google = compare_usage(logged, billed, task.period)
        except GoogleExportError as error:
            raise usage(f"{task.google} can't be compared: {error}") from None
    return done


def _billed(path: Path) -> BilledUsage:
    billed = BilledUsage()
    for row in google_rows(path):
        billed.add(row)
    return billed


def _read_log(work: Workspace, paths: Sequence[Path], report: Report) -> int:
    """Keep all records; return when the first of them ended, in microseconds since 1970."""
    stage = "reading the usage log"
    begins_at_micros: int | None = None
    read = 0
    for path in paths:
        for record, line in log_records(path):
            work.add_record(record, line)
            ended = record.ended_at_micros
            begins_at_micros = ended if begins_at_micros is None else min(begins_at_micros, ended)
            read += 1
            if read % _REPORT_EVERY == 0:
                report(stage, read, None)
    report(stage, read, None)
    return begins_at_micros or 0


async def _read_ledger(work: Workspace, task: Task, report: Report) -> Total:
    """Keep the charges for completions; return how many others there are in the period."""
    stage = "reading the ledger"
    others = Total()
    read = 0
    async with reading() as connection, connection.begin():
        async for charge in charges_of_period(connection, task.period.widened(task.margin_hours)):
            if charge.origin != "other":
                work.add_charge(charge)
            elif charge.booked_at_micros in task.period:
                others.add(charge.charged_nanos)
            read += 1
            if read % _REPORT_EVERY == 0:
                report(stage, read, None)
        # What was delivered long after: the log says under which number.
        for ids in work.unmatched_transaction_ids(_IDS_PER_QUERY):
            for charge in await charges_with_ids(connection, ids):
                if charge.origin == "proxy":
                    work.add_charge(charge)
    report(stage, read, None)
    return others


def _found(
    work: Workspace,
    done: Reconciliation,
    logged: LoggedUsage,
    log_begins_at_micros: int,
    report: Report,
) -> Iterator[Finding]:
    stage = "comparing"
    number = 0
    for number, group in enumerate(work.groups(), start=1):
        yield from _compared(group, done, logged, log_begins_at_micros)
        if number % _REPORT_EVERY == 0:
            report(stage, number, None)
    report(stage, number, None)
    for charge, record in work.unsettled_holds():
        if charge.booked_at_micros in done.period:
            yield of_charge(Kind.EXPIRED_HOLD, charge, record=record)


def _compared(
    group: Group, done: Reconciliation, logged: LoggedUsage, log_begins_at_micros: int
) -> Iterator[Finding]:
    found = resolved(group.records) if group.records else None
    if found is not None and found.record.ended_at_micros in done.period:
        done.statuses[found.record.status] += 1
        done.logged.add(found.record.amount_nanos)
        logged.add(found.record)
        if group.charges:
            done.matched.add(group.charges[0].paid_nanos)
    yield from compare(
        found, group.charges, period=done.period, log_begins_at_micros=log_begins_at_micros
    )


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[Finding], None]]:
    """Offer to write findings to a new file, as JSON lines; without a path, nowhere."""
    if path is None:
        yield lambda _finding: None
        return
    if path.exists():
        raise usage(f"{path} is there already. Choose another name, or remove it.")
    encode = msgspec.json.Encoder().encode
    with ExitStack() as done:
        try:
            file = done.enter_context(path.open("xb", buffering=0))
        except OSError as error:
            raise _unwritable(path, error) from None

        def write(finding: Finding) -> None:
            try:
                file.write(encode(finding.document()) + b"\n")
            except OSError as error:
                raise _unwritable(path, error) from None

        yield write


def _unwritable(path: Path, error: OSError) -> CommandError:
    return refused(f"{path} can't be written: {error}")
