"""Named points of the credits service's code, and a service that `kill -9`s itself there."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, event

from credits.client import app_of
from credits.drivers import Clock
from credits_service.core.metrics import LedgerMetrics
from credits_service.db import retention, save, store
from credits_service.db.load import Loader
from credits_service.db.store import LedgerStore
from credits_service.db.tables import metadata
from credits_service.ledger import batch, charges
from credits_service.ledger.writer import Writer
from faults.forked_service import serve_forked
from faults.passages import Install, Passage, after, after_awaiting, before, commit_after
from support.fork_server import Message, Report, serve_forks

# How often each point is passed at least, so that any of these passages can be the last.
WAVES = 2


class Point(NamedTuple):
    """A point of the code.

    Attributes:
        install: makes this process pass it.
        passages: how often it is passed in each run, at least.
    """

    install: Install
    passages: int = WAVES


def _write(function: str, table: Table) -> Install:
    def is_written(_connection: Any, written: Table, _names: Any, rows: Any) -> bool:
        return written is table and bool(rows)

    return before(save, function, is_written)


def _commit_after(owner: Any, name: str, passed: Callable[..., Install]) -> Install:
    return commit_after(owner, name, passed, Connection)


def _statement(passage: Passage) -> None:
    @event.listens_for(Engine, "before_cursor_execute")
    def _passed(*_args: Any) -> None:
        passage()


def _transaction_end(passage: Passage) -> None:
    @event.listens_for(Engine, "commit")
    def _passed(*_args: Any) -> None:
        passage()


def _late(_state: Any, hold: Any, *_args: Any, **_kwargs: Any) -> bool:
    return bool(hold.status == "expired")


_tables = metadata.tables

# Passed while requests are answered.
REQUEST_POINTS = {
    "batch: before it is loaded": Point(before(Loader, "load")),
    "batch: accounts are locked": Point(after(Loader, "_lock_accounts")),
    "batch: before the rules": Point(before(store, "apply_batch")),
    "batch: after the rules": Point(after(store, "apply_batch")),
    "charge of an expired hold: before": Point(before(charges, "settle", _late)),
    "charge of an expired hold: after": Point(after(charges, "settle", _late)),
    "refund: before": Point(before(batch, "refund")),
    "refund: after": Point(after(batch, "refund")),
    "account change: before": Point(before(batch, "change_account")),
    "account change: after": Point(after(batch, "change_account")),
    "save: new accounts": Point(_write("insert_rows", _tables["accounts"])),
    "save: changed accounts": Point(_write("update_rows", _tables["accounts"])),
    "save: new lots": Point(_write("insert_rows", _tables["lots"])),
    "save: changed lots": Point(_write("update_rows", _tables["lots"])),
    "save: new holds": Point(_write("insert_rows", _tables["holds"])),
    "save: changed holds": Point(_write("update_rows", _tables["holds"])),
    "save: transactions": Point(_write("insert_rows", _tables["transactions"])),
    "save: entries": Point(_write("insert_rows", _tables["entries"])),
    "save: idempotency keys": Point(_write("insert_rows", _tables["idempotency_keys"])),
    "save: webhook events": Point(_write("insert_rows", _tables["webhook_events"])),
    "commit: before": Point(_commit_after(store, "save", before)),
    "commit: after": Point(_commit_after(store, "save", after)),
    "writer: results are there": Point(after_awaiting(LedgerStore, "execute")),
    # The first ones have their results, the next ones do not.
    "writer: between two results": Point(before(Writer, "_forget"), 16),
    # The first ones are answered, the next ones are not.
    "answer: before it is sent": Point(before(LedgerMetrics, "count"), 16),
}

# Passed by a service to which nobody says anything: holds are due and old keys are there.
SWEEPER_POINTS = {
    "sweeper: before an account": Point(before(batch, "settle_due")),
    "sweeper: after an account": Point(after(batch, "settle_due")),
    "sweeper: before the commit": Point(_commit_after(store, "save", before), 1),
    "sweeper: after the commit": Point(_commit_after(store, "save", after), 1),
}

# Passed by a service to which nobody says anything, once keys are too old.
FORGETTING_POINTS = {
    "forgetting: before old keys go": Point(before(retention, "delete"), 1),
    "forgetting: before the commit": Point(_commit_after(retention, "delete", before), 1),
    "forgetting: after the commit": Point(_commit_after(retention, "delete", after), 1),
}

# Passed by a service that starts on an empty database.
MIGRATION_POINTS = {
    "migration: a statement": Point(_statement, 20),
    "migration: before the commit": Point(_transaction_end, 1),
}

POINTS = REQUEST_POINTS | SWEEPER_POINTS | FORGETTING_POINTS | MIGRATION_POINTS


def _serve(job: Message, report: Report) -> None:
    """Be a credits service on a socket that dies at a point."""
    POINTS[job["point"]].install(Passage(job["passage"], report))
    clock = Clock()
    clock.micros = job["now_micros"]
    app = app_of(job["ledger_url"], clock, **job["settings"])
    serve_forked(app, report)


if __name__ == "__main__":
    serve_forks(_serve)
