"""Named points of a paid completion, in the proxy and in the ledger, and services that die there.

Each point says what may become of the completion that is at it: `exact`, charged with what Gemini
reported at its end; `progress`, charged as far as the ledger was told; `unbilled`, not charged.
"""

from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import aiosqlite
from sqlalchemy import Connection

from ai_proxy_service.core import authorisation, meter, relay
from ai_proxy_service.core.charging import Charger
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import BillingUnavailableError
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.services import billing_service, credits_api, outbox
from ai_proxy_service.services.billing_service import CreditsBillingService
from ai_proxy_service.services.ledger_queue import LedgerOperation, LedgerQueue
from credits.client import SERVICE_KEY, app_of
from credits.drivers import Clock
from credits_service.db import store
from credits_service.ledger.operations import AmendHold, Charge, Operation, PlaceHold, ReleaseHold
from faults.forked_service import serve_forked
from faults.passages import (
    Install,
    Passage,
    When,
    after,
    after_awaiting,
    before,
    commit_after,
)
from support.fork_server import Message, Report, serve_forks
from support.proxy_app import proxy_app

Outcome = Literal["exact", "progress", "unbilled"]
EXACT: frozenset[Outcome] = frozenset({"exact"})
# The last progress may be all of it.
PROGRESS: frozenset[Outcome] = frozenset({"progress", "exact"})
UNBILLED: frozenset[Outcome] = frozenset({"unbilled"})
ANY = PROGRESS | UNBILLED

HOLDS = "/api/v1/holds"
BILL = "/api/v1/bill"
# What a proxy repeats after seconds is repeated after moments.
QUICK: tuple[tuple[Any, str, Any], ...] = (
    (outbox, "RETRY_SECONDS_MIN", 0.02),
    (billing_service, "WITHDRAW_PAUSES_SECONDS", (0.02,) * 500),
    (credits_api, "RETRY_PAUSE_SECONDS", 0.02),
)
# How often a call is made before its caller gives up.
_TRIES = {"hold": 2, "bill": 1}
# So many calls lose their answers where a point needs it.
LOST = 2


class Point(NamedTuple):
    """A point of the code.

    Attributes:
        install: makes the dying process pass it.
        outcomes: what may become of the completion that is at it.
        passages: how often it is passed in each round, at least.
        losing: answers to this operation get lost in the dying process, perhaps the call as well.
        beating: the dying process has a heartbeat with each chunk, and waits for it.
    """

    install: Install
    outcomes: frozenset[Outcome]
    passages: int = 2
    losing: str | None = None
    beating: bool = False


class LedgerCall(NamedTuple):
    """A point at which the proxy dies: the ledger has been called, and the proxy waits for it.

    Attributes:
        method: the call's, where it is made by itself.
        path: what its path begins with then.
        op: what a batch calls it.
        answered: the ledger has done it, and is about to answer.
        outcomes: what may become of the completion.
    """

    method: str
    path: str
    op: str
    answered: bool
    outcomes: frozenset[Outcome]


def _is_abandoned(running: Completion, *_args: Any, **_kwargs: Any) -> bool:
    return running._abandoned


def _is_raised(running: Completion) -> bool:
    """The hold covers more than the window that it began with: progress is on record."""
    held = running._meter
    if held is None:
        return False
    window = held.cost.output_tokens_for(held.hold.amount_nanos)
    return window > 1.5 * authorisation.WINDOW_TOKENS


def _after_statement(beginning: str) -> Install:
    """Return the point where the outbox has run a statement."""

    async def passed(running: Awaitable[Any], passage: Passage) -> Any:
        result = await running
        passage()
        return result

    def install(passage: Passage) -> None:
        original = aiosqlite.Connection.execute

        def execute(self: aiosqlite.Connection, sql: str, *args: Any) -> Any:
            running = original(self, sql, *args)
            return passed(running, passage) if sql.startswith(beginning) else running

        aiosqlite.Connection.execute = execute  # type: ignore[method-assign]

    return install


_billing = CreditsBillingService

# Passed by a proxy.
PROXY_POINTS = {
    "hold: before it is asked for": Point(before(_billing, "hold"), UNBILLED),
    "hold: placed": Point(after_awaiting(_billing, "hold"), UNBILLED),
    "upstream: before it opens": Point(before(Relay, "_open_upstream"), UNBILLED),
    "upstream: open": Point(after_awaiting(Relay, "_open_upstream"), UNBILLED),
    "chunk: the first": Point(after_awaiting(relay, "first_chunks"), UNBILLED),
    "chunk: another": Point(after_awaiting(Completion, "receive"), ANY, 12),
    "chunk: after a raise": Point(
        after_awaiting(Completion, "receive", _is_raised), PROGRESS, passages=6
    ),
    "raise: before": Point(before(_billing, "raise_hold"), ANY),
    "raise: answered": Point(after_awaiting(_billing, "raise_hold"), PROGRESS),
    "settling: before": Point(before(Charger, "charge"), ANY, 6),
    "bill: before it is sent": Point(before(_billing, "_bill"), ANY, 6),
    "bill: answered": Point(after_awaiting(_billing, "_bill"), EXACT, 6),
    "drain: begun": Point(before(Completion, "_drain_stream"), UNBILLED),
    "drain: a chunk": Point(
        after_awaiting(Completion, "receive", _is_abandoned), UNBILLED, passages=4
    ),
    "drain: before settling": Point(before(Completion, "_start_settling", _is_abandoned), UNBILLED),
    "undo: before": Point(before(Relay, "_undo"), UNBILLED),
    "undo: released": Point(after_awaiting(_billing, "release"), UNBILLED),
    "withdraw: before": Point(before(_billing, "withdraw"), UNBILLED, LOST, losing="hold"),
    "withdraw: released": Point(
        after_awaiting(_billing, "withdraw"), UNBILLED, LOST, losing="hold"
    ),
    "outbox: before it keeps": Point(before(outbox.Outbox, "put"), ANY, LOST, losing="bill"),
    "outbox: kept": Point(_after_statement("INSERT INTO settlements"), EXACT, LOST, losing="bill"),
    "outbox: before the delivery": Point(before(_billing, "deliver"), EXACT, LOST, losing="bill"),
    "outbox: delivered": Point(after_awaiting(_billing, "deliver"), EXACT, LOST, losing="bill"),
    "outbox: deleted": Point(
        _after_statement("DELETE FROM settlements"), EXACT, LOST, losing="bill"
    ),
    "heartbeat: before": Point(before(_billing, "raise_hold"), ANY, 8, beating=True),
    "heartbeat: answered": Point(after_awaiting(_billing, "raise_hold"), PROGRESS, 8, beating=True),
}

# Passed by a proxy whose call has reached the ledger.
LEDGER_CALLS = {
    "hold: asked for": LedgerCall("POST", HOLDS, "hold", answered=False, outcomes=UNBILLED),
    "hold: placed, not answered": LedgerCall(
        "POST", HOLDS, "hold", answered=True, outcomes=UNBILLED
    ),
    "raise: asked for": LedgerCall("PATCH", HOLDS, "amend_hold", answered=False, outcomes=PROGRESS),
    "raise: made, not answered": LedgerCall(
        "PATCH", HOLDS, "amend_hold", answered=True, outcomes=PROGRESS
    ),
    "bill: sent": LedgerCall("POST", BILL, "bill", answered=False, outcomes=EXACT),
    "bill: booked, not answered": LedgerCall("POST", BILL, "bill", answered=True, outcomes=EXACT),
    "release: asked for": LedgerCall(
        "DELETE", HOLDS, "release_hold", answered=False, outcomes=UNBILLED
    ),
    "release: done, not answered": LedgerCall(
        "DELETE", HOLDS, "release_hold", answered=True, outcomes=UNBILLED
    ),
}


def _has(operation: type[Operation]) -> When:
    def is_there(_loaded: Any, commands: Any, **_options: Any) -> bool:
        return any(isinstance(command.operation, operation) for command in commands)

    return is_there


def _commit(operation: type[Operation], passed: Any, passages: int = 2) -> Point:
    install = commit_after(store, "apply_batch", passed, Connection, _has(operation))
    return Point(install, EXACT, passages)


# Passed by a ledger; the proxy lives, so that all it has served is charged.
LEDGER_POINTS = {
    # Those of one moment may have one commit.
    "commit of a hold: before": _commit(PlaceHold, before, 1),
    "commit of a hold: after": _commit(PlaceHold, after, 1),
    "commit of a raise: before": _commit(AmendHold, before),
    "commit of a raise: after": _commit(AmendHold, after),
    "commit of a bill: before": _commit(Charge, before),
    "commit of a bill: after": _commit(Charge, after),
    "commit of a release: before": _commit(ReleaseHold, before, 1),
    "commit of a release: after": _commit(ReleaseHold, after, 1),
}

POINTS = PROXY_POINTS | LEDGER_POINTS


def _lose(losing: str, *, arrives: bool) -> None:
    """Lose the answers to the first calls; what repeats them later is answered.

    Args:
        losing: which operations.
        arrives: the ledger hears them.
    """
    original = LedgerQueue._run
    lost: Counter[str] = Counter()

    async def run(self: LedgerQueue, operation: LedgerOperation) -> Any:
        key = operation.idempotency_key or ""
        is_one = operation.op == losing and key
        if is_one and (key in lost or len(lost) < LOST) and lost[key] < _TRIES[losing]:
            lost[key] += 1
            if arrives:
                await original(self, operation)
            raise BillingUnavailableError
        return await original(self, operation)

    LedgerQueue._run = run  # type: ignore[method-assign]


def _beat_with_each_chunk() -> None:
    meter.HEARTBEAT_SECONDS = meter.FIRST_HEARTBEAT_SECONDS = 0
    original = Meter.follow

    async def follow(self: Meter, tally: Any) -> bool:
        is_over = await original(self, tally)
        if self._raising is not None:
            await self._raising
        return is_over

    Meter.follow = follow  # type: ignore[method-assign]


def _serve(job: Message, report: Report) -> None:
    """Be a proxy or a ledger that dies at a point, or when somebody kills it."""
    if job["point"] is not None:
        point = POINTS[job["point"]]
        if point.losing is not None:
            _lose(point.losing, arrives=job["arrives"])
        if point.beating:
            _beat_with_each_chunk()
        point.install(Passage(job["passage"], report))
    if "ledger_url" in job:
        clock = Clock()
        clock.micros = job["now_micros"]
        serve_forked(app_of(job["ledger_url"], clock), report, job["port"])
        return
    for module, name, value in QUICK:
        setattr(module, name, value)
    serve_forked(proxy_app(job["urls"], SERVICE_KEY, Path(job["folder"])), report)


if __name__ == "__main__":
    serve_forks(_serve)
