"""Makes up a ledger's history, by the service's own rules: months of it in a minute.

Nothing here knows how a charge is booked. Commands are drawn at random, `apply_batch` decides
them on states that are kept in memory, and what it appends is handed on as rows. So whatever
the rules write, the history has: lots that were used up or expired, holds that were captured,
released or ran out, entries, the hash chain, remembered answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count, islice
from random import Random
from typing import Any, NamedTuple

import msgspec
from benchmarks.canned import MODEL
from sqlalchemy import Table

from credits_service.api.render import render
from credits_service.db import rows, tables
from credits_service.ledger.answers import Accepted, Answer
from credits_service.ledger.batch import Command, Loaded, Outcome, apply_batch
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.journal import Transaction
from credits_service.ledger.operations import (
    AmendHold,
    Charge,
    Operation,
    PlaceHold,
    Refund,
    ReleaseHold,
    SettleDue,
    TopUp,
)
from credits_service.ledger.refunds import Refundable
from credits_service.ledger.state import AccountState, Hold

PRINCIPAL = "bench"
BATCH = 500
# A batch at each of these steps: a longer history is one of more time.
STEP_MICROS = 300 * 1_000_000
# What the whole takes in steps, per command: holds take two for one charge.
_COMMANDS_PER_TRANSACTION = 1.7
_KEYS_KEPT_MICROS = 30 * 86_400 * 1_000_000
_HOLD_TTL_MICROS = 3 * STEP_MICROS
_GRANT_TTL_MICROS = 5 * STEP_MICROS
# Below the last one an account is topped up: more than all of a step could take.
_LOT_NANOS, _GRANT_NANOS, _LOW_NANOS = 1_500_000_000, 20_000_000, 1_000_000_000
_CHARGE_NANOS = 100_000, 2_000_000
# Of what is begun: these are holds, grants, refunds; the rest are charges at once.
_HOLDS, _GRANTS, _REFUNDS = 0.5, 0.004, 0.002
# Of the holds: these run out, these are released; the rest are captured.
_ABANDONED, _RELEASED = 0.01, 0.03
_USAGE = msgspec.json.encode({"input_tokens": 12, "output_tokens": 256}).decode()
_PRICE = msgspec.json.encode({"model": MODEL, "input_pico": 300_000}).decode()
_FIRST_REFUSAL = 300


@dataclass(frozen=True)
class Shape:
    """What a ledger is to hold.

    Attributes:
        transactions: how many, or a few more: what expires at the end is booked too.
        accounts: how many accounts share them, the hot one included.
        hot_share: part of the commands that is about the hot account.
        prefix: begins the accounts' names and the keys, so that histories can be put together.
        seed: the same one makes the same amounts in the same order.
    """

    transactions: int
    accounts: int
    hot_share: float = 0.3
    prefix: str = ""
    seed: int = 1

    @property
    def hot(self) -> str:
        """The account with the large share."""
        return f"{self.prefix}hot"

    def users(self) -> list[str]:
        """Name the accounts; the hot one is first."""
        others = range(1, self.accounts)
        return [self.hot, *(f"{self.prefix}user-{number}" for number in others)]


class Rows(NamedTuple):
    """Rows of one table, in the order of the names."""

    table: Table
    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Step(NamedTuple):
    """The rows of one batch; those of the accounts and of what is left come last."""

    transactions: int
    rows: list[Rows]


def history(shape: Shape, *, ends_at_micros: int) -> Iterator[Step]:
    """Yield the rows of a ledger of that shape, in order of time.

    Each row comes once, when nothing can change it any more: memory depends on the number of
    accounts alone.
    """
    return _History(shape, ends_at_micros).steps()


class _History:
    def __init__(self, shape: Shape, ends_at_micros: int) -> None:
        self._shape = shape
        self._users = shape.users()
        self._random = Random(shape.seed)  # noqa: S311 - figures, no secrets
        self._ends_at = ends_at_micros
        commands = shape.transactions * _COMMANDS_PER_TRANSACTION + shape.accounts
        self._now = ends_at_micros - int(commands / BATCH + 5) * STEP_MICROS
        self._states: dict[str, AccountState] = {}
        self._open: list[Hold] = []
        self._owners: dict[str, str] = {}
        self._charges: list[Transaction] = []
        self._refundables: dict[str, Refundable] = {}
        self._topped_up: set[str] = set()
        self._numbers = count(1)

    def steps(self) -> Iterator[Step]:
        booked = 0
        opening = iter(self._users)
        while page := list(islice(opening, BATCH)):
            yield self._step([self._top_up(user) for user in page])
            booked += len(page)
        while (missing := self._shape.transactions - booked) > 0:
            step = self._step(list(islice(self._commands(), min(BATCH, missing))))
            booked += step.transactions
            yield step
        assert self._now < self._ends_at
        self._now = self._ends_at
        for begin in range(0, len(self._users), BATCH):
            users = self._users[begin : begin + BATCH]
            yield self._run([self._command(SettleDue(user), key=False) for user in users])
        yield Step(0, self._standing())

    def _commands(self) -> Iterator[Command]:
        """End the holds of the step before, then begin anew, without end."""
        ending, self._open = self._open, []
        self._owners = {hold.id: hold.user_id for hold in ending}
        yield from map(self._end, ending)
        while True:
            yield self._new()

    def _end(self, hold: Hold) -> Command:
        chance = self._random.random()
        if chance < _ABANDONED:
            used = AmendHold(hold.id, progress_nanos=hold.amount_nanos // 2)
            return self._command(used, key=False)
        if chance < _ABANDONED + _RELEASED:
            return self._command(ReleaseHold(hold.id), key=False)
        amount = self._random.randrange(hold.amount_nanos // 4, hold.amount_nanos)
        return self._charge(hold.user_id, amount, hold.id)

    def _new(self) -> Command:
        random = self._random.random
        chance = random()
        if chance < _REFUNDS and self._charges:
            charge = self._charges.pop()
            self._refundables[charge.id] = Refundable(charge, {})
            return self._command(Refund(charge.id, "Given back"))
        user = self._users[0]
        if random() >= self._shape.hot_share:
            user = self._users[int(random() * len(self._users))]
        if chance > 1 - _GRANTS:
            expiry = self._now + _GRANT_TTL_MICROS
            grant = TopUp(user, _GRANT_NANOS, "promo", priority=10, expires_at_micros=expiry)
            return self._command(grant)
        is_low = self._states[user].account.available_nanos < _LOW_NANOS
        if is_low and user not in self._topped_up:
            self._topped_up.add(user)
            return self._top_up(user)
        amount = self._random.randrange(*_CHARGE_NANOS)
        if random() < _HOLDS:
            return self._command(PlaceHold(user, amount, _HOLD_TTL_MICROS, request_ref="chat"))
        return self._charge(user, amount, None)

    def _charge(self, user: str, amount_nanos: int, hold_id: str | None) -> Command:
        return self._command(
            Charge(
                user,
                amount_nanos,
                description=f"{MODEL}: 12 in, 256 out",
                hold_id=hold_id,
                usage=_USAGE,
                price=_PRICE,
            )
        )

    def _top_up(self, user: str) -> Command:
        reference = f"{self._shape.prefix}payment-{next(self._numbers)}"
        return self._command(TopUp(user, _LOT_NANOS, reference=reference))

    def _command(self, operation: Operation, *, key: bool = True) -> Command:
        name = f"{self._shape.prefix}{next(self._numbers)}"
        known = IdempotencyKey(PRINCIPAL, f"settle-{name}") if key else None
        return Command(operation, PRINCIPAL, f"req-{name}", known)

    def _new_id(self) -> str:
        """Make a UUIDv7 of the moment that it is in this history."""
        number = next(self._numbers)
        rest = self._random.getrandbits(62) | 1 << 63
        digits = f"{self._now // 1000:012x}7{number & 0xFFF:03x}{rest:016x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    @property
    def _is_kept(self) -> bool:
        """Whether the answers of this step have not been pruned meanwhile."""
        return self._now > self._ends_at - _KEYS_KEPT_MICROS

    def _step(self, commands: list[Command]) -> Step:
        self._now += STEP_MICROS
        return self._run(commands)

    def _run(self, commands: list[Command]) -> Step:
        """Let the rules decide, and take what is over out of memory."""
        loaded = Loaded(self._now, self._states, self._owners, self._refundables, {}, frozenset())
        write = render if self._is_kept else _unwritten
        outcome = apply_batch(loaded, commands, new_id=self._new_id, render=write)
        for result in outcome.results:
            assert result.status < _FIRST_REFUSAL, result.body
        self._states.update(outcome.states)
        return Step(len(outcome.journal.transactions), self._rows(outcome))

    def _rows(self, outcome: Outcome) -> list[Rows]:
        lots_used_up: list[tuple[Any, ...]] = []
        holds_ended: list[tuple[Any, ...]] = []
        for state in outcome.states.values():
            for hold in list(state.holds.values()):
                if hold.status != "active":
                    holds_ended.append(rows.to_row(hold, rows.HOLD))
                    del state.holds[hold.id]
                elif hold.created_at_micros == self._now:
                    self._open.append(hold)
            for lot in list(state.lots.values()):
                if not lot.remaining_nanos:
                    lots_used_up.append(rows.to_row(lot, rows.LOT))
                    del state.lots[lot.id]
        journal = outcome.journal
        self._refundables = {}
        self._topped_up = set()
        self._charges = [found for found in journal.transactions if self._can_go_back(found)]
        remembered = outcome.remembered if self._is_kept else {}
        return [
            Rows(tables.lots, rows.LOT, lots_used_up),
            Rows(tables.holds, rows.HOLD, holds_ended),
            Rows(
                tables.transactions,
                rows.TRANSACTION,
                list(map(rows.transaction_row, journal.transactions)),
            ),
            Rows(tables.entries, rows.ENTRY, list(map(msgspec.structs.astuple, journal.entries))),
            Rows(
                tables.idempotency_keys,
                rows.IDEMPOTENCY_KEY,
                [(*key, *known, self._now) for key, known in remembered.items()],
            ),
        ]

    def _can_go_back(self, booked: Transaction) -> bool:
        """Whether the lots that a charge took from are in memory still."""
        live = self._states[booked.user_id].lots
        return (
            booked.kind == "charge"
            and bool(booked.lots)
            and all(use.lot_id in live for use in booked.lots)
        )

    def _standing(self) -> list[Rows]:
        states = self._states.values()
        lots = [rows.to_row(lot, rows.LOT) for state in states for lot in state.lots.values()]
        accounts = [rows.to_row(state.account, rows.ACCOUNT) for state in states]
        return [
            Rows(tables.accounts, rows.ACCOUNT, accounts),
            Rows(tables.lots, rows.LOT, lots),
        ]


def _unwritten(answer: Answer, request_id: str) -> tuple[int, bytes]:
    """Spare the text of an answer that nobody remembers; what is refused says why."""
    return (HTTPStatus.OK, b"") if isinstance(answer, Accepted) else render(answer, request_id)
