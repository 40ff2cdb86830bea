"""Named points of the credits service's code, and a service that `kill -9`s itself there.

The service knows nothing of this: functions of its modules are wrapped in the process that is
going to die. A name that is not there any more fails, and so does a point that is not passed.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import uvicorn
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
from support.fork_server import Message, Report, serve_forks

# How often each point is passed at least, so that any of these passages can be the last.
WAVES = 2


class Passage:
    """Counts how often a point is passed; the n-th time this process is killed."""

    def __init__(self, number: int, report: Report) -> None:
        self._left = number
        self._report = report

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._report({"reached": os.getpid()})
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


Install = Callable[[Passage], None]
_When = Callable[..., bool]


class Point(NamedTuple):
    """A point of the code.

    Attributes:
        install: makes this process pass it.
        passages: how often it is passed in each run, at least.
    """

    install: Install
    passages: int = WAVES


def _always(*_args: Any, **_kwargs: Any) -> bool:
    return True


def _wrapped(owner: Any, name: str, wrap: Callable[[Passage, Any], Any]) -> Install:
    def install(passage: Passage) -> None:
        setattr(owner, name, wrap(passage, getattr(owner, name)))

    return install


def _before(owner: Any, name: str, when: _When = _always) -> Install:
    """Return the point where a function is called."""

    def wrap(passage: Passage, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                passage()
            return original(*args, **kwargs)

        return call

    return _wrapped(owner, name, wrap)


def _after(owner: Any, name: str, when: _When = _always) -> Install:
    """Return the point where a function has done its work."""

    def wrap(passage: Passage, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts = when(*args, **kwargs)
            result = original(*args, **kwargs)
            if counts:
                passage()
            return result

        return call

    return _wrapped(owner, name, wrap)


def _after_awaiting(owner: Any, name: str) -> Install:
    def wrap(passage: Passage, original: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            passage()
            return result

        return call

    return _wrapped(owner, name, wrap)


def _write(function: str, table: Table) -> Install:
    def is_written(_connection: Any, written: Table, _names: Any, rows: Any) -> bool:
        return written is table and bool(rows)

    return _before(save, function, is_written)


def _commit_after(owner: Any, name: str, passed: Callable[..., Install]) -> Install:
    """Return the point at the commit of what a function wrote; others commit as well."""
    written = False

    def is_its_commit(*_args: Any) -> bool:
        nonlocal written
        its, written = written, False
        return its

    def install(passage: Passage) -> None:
        original = getattr(owner, name)

        def write_and_note(*args: Any) -> Any:
            nonlocal written
            written = True
            return original(*args)

        setattr(owner, name, write_and_note)
        passed(Connection, "commit", is_its_commit)(passage)

    return install


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
    "batch: before it is loaded": Point(_before(Loader, "load")),
    "batch: accounts are locked": Point(_after(Loader, "_lock_accounts")),
    "batch: before the rules": Point(_before(store, "apply_batch")),
    "batch: after the rules": Point(_after(store, "apply_batch")),
    "charge of an expired hold: before": Point(_before(charges, "settle", _late)),
    "charge of an expired hold: after": Point(_after(charges, "settle", _late)),
    "refund: before": Point(_before(batch, "refund")),
    "refund: after": Point(_after(batch, "refund")),
    "account change: before": Point(_before(batch, "change_account")),
    "account change: after": Point(_after(batch, "change_account")),
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
    "commit: before": Point(_commit_after(store, "save", _before)),
    "commit: after": Point(_commit_after(store, "save", _after)),
    "writer: results are there": Point(_after_awaiting(LedgerStore, "execute")),
    # The first ones have their results, the next ones do not.
    "writer: between two results": Point(_before(Writer, "_forget"), 16),
    # The first ones are answered, the next ones are not.
    "answer: before it is sent": Point(_before(LedgerMetrics, "count"), 16),
}

# Passed by a service to which nobody says anything: holds are due and old keys are there.
SWEEPER_POINTS = {
    "sweeper: before an account": Point(_before(batch, "settle_due")),
    "sweeper: after an account": Point(_after(batch, "settle_due")),
    "sweeper: before the commit": Point(_commit_after(store, "save", _before), 1),
    "sweeper: after the commit": Point(_commit_after(store, "save", _after), 1),
}

# Passed by a service to which nobody says anything, once keys are too old.
FORGETTING_POINTS = {
    "forgetting: before old keys go": Point(_before(retention, "delete"), 1),
    "forgetting: before the commit": Point(_commit_after(retention, "delete", _before), 1),
    "forgetting: after the commit": Point(_commit_after(retention, "delete", _after), 1),
}

# Passed by a service that starts on an empty database.
MIGRATION_POINTS = {
    "migration: a statement": Point(_statement, 20),
    "migration: before the commit": Point(_transaction_end, 1),
}

POINTS = REQUEST_POINTS | SWEEPER_POINTS | FORGETTING_POINTS | MIGRATION_POINTS


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()


def _serve(job: Message, report: Report) -> None:
    """Be a credits service on a socket that dies at a point."""
    POINTS[job["point"]].install(Passage(job["passage"], report))
    clock = Clock()
    clock.micros = job["now_micros"]
    app = app_of(job["ledger_url"], clock, **job["settings"])
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, loop="asyncio", http="httptools", ws="none", log_config=None, access_log=False
    )
    host, port = listener.getsockname()
    listening = {"url": f"http://{host}:{port}", "pid": os.getpid()}
    server = _Server(config, lambda: report(listening))
    asyncio.run(server.serve([listener]))


if __name__ == "__main__":
    serve_forks(_serve)
