"""A batch: locked account states and commands in, new states, rows and results out.

Nothing here waits, reads a clock or touches a database.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, assert_never

import msgspec

from credits_service.ledger.answers import (
    AccountUnknown,
    Answer,
    HoldUnknown,
    Insufficient,
    KeyReused,
    ReferenceUsed,
    Settled,
    TransactionUnknown,
)
from credits_service.ledger.changes import change_account
from credits_service.ledger.charges import charge
from credits_service.ledger.context import Context
from credits_service.ledger.events import EventRules
from credits_service.ledger.expiry import settle_due
from credits_service.ledger.holds import amend_hold, place_hold, release_hold
from credits_service.ledger.idempotency import (
    KEY_HEADER,
    IdempotencyKey,
    Remembered,
    fingerprint,
    is_remembered,
    is_same_request,
)
from credits_service.ledger.journal import Journal, Origin
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    Refund,
    ReleaseHold,
    SettleDue,
    TopUp,
)
from credits_service.ledger.refunds import Refundable, refund
from credits_service.ledger.state import AccountState
from credits_service.ledger.topups import new_account, top_up, unacceptable


class Command(msgspec.Struct, frozen=True):
    """An operation, who asks for it, and the key under which its answer is remembered.

    Attributes:
        key_field: where the caller gave the key, as a problem names it.
    """

    operation: Operation
    principal: str
    request_id: str
    key: IdempotencyKey | None = None
    key_field: str = KEY_HEADER


class Result(NamedTuple):
    """An answer as the client gets it."""

    status: int
    body: bytes
    replayed: bool = False


class Render(Protocol):
    """Writes an answer the way clients read it: what is remembered is what was sent."""

    def __call__(self, answer: Answer, request_id: str) -> tuple[int, bytes]:
        """Return status and body."""


class Loaded(NamedTuple):
    """What a batch is given: all that its commands touch, locked.

    Attributes:
        states: the accounts that exist, by user id.
        hold_owners: user id of each hold that is named by its id alone.
        refundables: the transactions that are to be refunded, by id.
        remembered: outcomes of keys that were used before.
        used_references: references of top-ups that are booked.
    """

    now_micros: int
    states: Mapping[str, AccountState]
    hold_owners: Mapping[str, str]
    refundables: Mapping[str, Refundable]
    remembered: Mapping[IdempotencyKey, Remembered]
    used_references: frozenset[str]


class Outcome(NamedTuple):
    """What a batch leaves: new states, rows to append, and a result for each command."""

    states: dict[str, AccountState]
    journal: Journal
    remembered: dict[IdempotencyKey, Remembered]
    results: list[Result]


def apply_batch(
    loaded: Loaded,
    commands: Sequence[Command],
    *,
    new_id: Callable[[], str],
    render: Render,
    events: EventRules | None = None,
) -> Outcome:
    """Run commands one after the other; a refusal leaves nothing and stops no neighbour.

    Args:
        loaded: all that they touch, locked; it is not changed.
        commands: what to do.
        new_id: makes identifiers that grow.
        render: writes answers.
        events: which events are written down; None for none.
    """
    return _Batch(loaded, new_id, render, events).run(commands)


class _Batch:
    """One run of `apply_batch`, on copies of what it was given."""

    def __init__(
        self,
        loaded: Loaded,
        new_id: Callable[[], str],
        render: Render,
        events: EventRules | None,
    ) -> None:
        self._loaded = loaded
        self._new_id = new_id
        self._render = render
        self._journal = Journal(events)
        self._refundables: dict[str, Refundable] = {}
        self._states: dict[str, AccountState] = {}
        self._references = set(loaded.used_references)
        self._remembered: dict[IdempotencyKey, Remembered] = {}

    def run(self, commands: Sequence[Command]) -> Outcome:
        results = [self._result(command) for command in commands]
        return Outcome(self._states, self._journal, self._remembered, results)

    def _result(self, command: Command) -> Result:
        key = command.key
        if key is None:
            return Result(*self._render(self._answer(command), command.request_id))
        known = self._remembered.get(key) or self._loaded.remembered.get(key)
        if known is not None:
            if is_same_request(command.operation, known):
                return Result(known.status, known.body, replayed=True)
            return Result(*self._render(KeyReused(command.key_field), command.request_id))
        status, body = self._render(self._answer(command), command.request_id)
        if is_remembered(status):
            mark = fingerprint(command.operation)
            self._remembered[key] = Remembered(mark, status, body)
        return Result(status, body)

    def _answer(self, command: Command) -> Answer:
        operation = command.operation
        user_id = self._owner_of(operation)
        key = command.key
        origin = Origin(command.principal, command.request_id, key.key if key else None)
        state = None if user_id is None else self._state(user_id, origin)
        if isinstance(operation, TopUp):
            return self._top_up(state, operation, origin)
        if state is None:
            return _without_account(operation)
        context = self._context(state, origin)
        if isinstance(operation, Refund):
            return refund(state, self._refundable(operation), operation, context)
        return _dispatch(state, operation, context)

    def _owner_of(self, operation: Operation) -> str | None:
        """Return whose account an operation is about; None if it names nothing that exists."""
        if isinstance(operation, AmendHold | ReleaseHold):
            return self._loaded.hold_owners.get(operation.hold_id)
        if isinstance(operation, Refund):
            found = self._loaded.refundables.get(operation.transaction_id)
            return found.charge.user_id if found else None
        return operation.user_id

    def _refundable(self, operation: Refund) -> Refundable:
        """Return the batch's own copy, which knows of the refunds before it in the batch."""
        found = self._refundables.get(operation.transaction_id)
        if found is None:
            loaded = self._loaded.refundables[operation.transaction_id]
            found = loaded._replace(returned=dict(loaded.returned))
            self._refundables[operation.transaction_id] = found
        return found

    def _context(self, state: AccountState, origin: Origin) -> Context:
        # A clock that was set back must not put an account's history out of order.
        now = max(self._loaded.now_micros, state.account.updated_at_micros)
        return Context(self._journal, self._new_id, origin, now)

    def _state(self, user_id: str, origin: Origin) -> AccountState | None:
        """Return the batch's own copy of an account, with nothing due left on it."""
        state = self._states.get(user_id)
        if state is None:
            found = self._loaded.states.get(user_id)
            if found is None:
                return None
            state = self._states[user_id] = found.copy()
            settle_due(state, self._context(state, origin).without_key())
        return state

    def _top_up(self, state: AccountState | None, operation: TopUp, origin: Origin) -> Answer:
        if operation.reference is not None and operation.reference in self._references:
            return ReferenceUsed(operation.reference)
        now = self._loaded.now_micros
        if state is not None:
            now = max(now, state.account.updated_at_micros)
        refusal = unacceptable(state, operation, now)
        if refusal is not None:
            return refusal
        if state is None:
            state = new_account(operation.user_id, self._loaded.now_micros)
            self._states[operation.user_id] = state
        if operation.reference is not None:
            self._references.add(operation.reference)
        return top_up(state, operation, self._context(state, origin))


def _dispatch(
    state: AccountState,
    operation: Charge | PlaceHold | AmendHold | ReleaseHold | ChangeAccount | SettleDue,
    context: Context,
) -> Answer:
    match operation:
        case Charge():
            return charge(state, operation, context)
        case PlaceHold():
            return place_hold(state, operation, context)
        case AmendHold():
            return amend_hold(state, operation, context)
        case ReleaseHold():
            return release_hold(state, operation, context)
        case ChangeAccount():
            return change_account(state, operation, context)
        case SettleDue():
            return Settled()
        case _:
            assert_never(operation)


def _without_account(
    operation: Charge | PlaceHold | AmendHold | ReleaseHold | Refund | ChangeAccount | SettleDue,
) -> Answer:
    """Answer for an account that does not exist: it has nothing and can't pay."""
    match operation:
        case Charge(hold_id=None) | PlaceHold():
            required = operation.amount_nanos
            if isinstance(operation, PlaceHold) and operation.min_amount_nanos is not None:
                required = operation.min_amount_nanos
            return Insufficient(operation.user_id, 0, required, retryable=False)
        case Charge(hold_id=hold_id):
            return HoldUnknown(hold_id or "")
        case AmendHold() | ReleaseHold():
            return HoldUnknown(operation.hold_id)
        case Refund():
            return TransactionUnknown(operation.transaction_id)
        case ChangeAccount():
            return AccountUnknown(operation.user_id)
        case SettleDue():
            return Settled()
        case _:
            assert_never(operation)
