"""Ways to run commands: on the rules alone, or through the writer on a real database."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from credits_service.api.key_body import render_key
from credits_service.api.render import render
from credits_service.core.ids import new_id
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.audit import audit
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.key_writes import Actor, Call
from credits_service.db.keys import KeyStore
from credits_service.db.migrate import migrate
from credits_service.db.store import LedgerStore
from credits_service.db.tables import webhook_events
from credits_service.keys.secret import make_secret
from credits_service.keys.state import IssuedKey
from credits_service.ledger.batch import Command, Loaded, Result, apply_batch
from credits_service.ledger.events import Event, EventRules
from credits_service.ledger.invariants import AccountAudit, Violation
from credits_service.ledger.operations import AmendHold, Refund, ReleaseHold
from credits_service.ledger.refund_audit import audit_refunds
from credits_service.ledger.refunds import Refundable, returned_by
from credits_service.ledger.state import KeySpending
from credits_service.ledger.writer import Writer

if TYPE_CHECKING:
    from credits_service.ledger.idempotency import IdempotencyKey, Remembered
    from credits_service.ledger.journal import Entry, Transaction
    from credits_service.ledger.state import AccountState, Lot

START_MICROS = 1_800_000_000_000_000
LOW_BALANCE_NANOS = 30
_ADMIN = Call(Actor("admin", "req"), None, None)
EVENTS = EventRules(LOW_BALANCE_NANOS)


# Of an issued key, in nano-USD, by their names: `day`, `month`, `total`.
Limits = Mapping[str, int | None]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.micros = START_MICROS

    def __call__(self) -> int:
        return self.micros


class Driver(Protocol):
    """Runs commands and checks what they leave."""

    clock: Clock

    def run(self, commands: Sequence[Command]) -> list[Result]: ...

    def violations(self, user_ids: Sequence[str] | None = None) -> list[Violation]:
        """Return what is wrong with these accounts, or with the whole ledger."""

    def events(self, user_id: str) -> dict[str, int] | None:
        """Return how many events of each kind were written down; None if nobody can tell."""

    def make_key(self, user_id: str, limits: Limits) -> str:
        """Make an issued key of an account that is there, and return its id."""

    def limit_key(self, key_id: str, limits: Limits) -> None:
        """Change some limits of a key that is not revoked."""

    def revoke_key(self, key_id: str) -> None:
        """End a key."""

    def close(self) -> None: ...


class RulesDriver:
    """The rules alone, with their rows kept in memory; a batch for each call."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.states: dict[str, AccountState] = {}
        self.all_lots: dict[str, Lot] = {}
        self.transactions: list[Transaction] = []
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.remembered: dict[IdempotencyKey, Remembered] = {}
        self.told: list[Event] = []

    def run(self, commands: Sequence[Command]) -> list[Result]:
        holds = {hold_id: user for user, state in self.states.items() for hold_id in state.holds}
        named = {
            command.operation.hold_id
            for command in commands
            if isinstance(command.operation, AmendHold | ReleaseHold)
        }
        booked = {transaction.id: transaction for transaction in self.transactions}
        refundables: dict[str, Refundable] = {}
        for command in commands:
            operation = command.operation
            if isinstance(operation, Refund) and operation.transaction_id in booked:
                charge = booked[operation.transaction_id]
                refunds = [t for t in self.transactions if t.reverses_id == charge.id]
                refundables[charge.id] = Refundable(charge, returned_by(refunds))
                for use in charge.lots:
                    self.states[charge.user_id].lots[use.lot_id] = self.all_lots[use.lot_id]
        references = frozenset(lot.reference for lot in self.all_lots.values() if lot.reference)
        loaded = Loaded(
            now_micros=self.clock(),
            states=self.states,
            hold_owners={hold_id: holds[hold_id] for hold_id in named & holds.keys()},
            refundables=refundables,
            remembered=self.remembered,
            used_references=references,
        )
        outcome = apply_batch(loaded, commands, new_id=new_id, render=render, events=EVENTS)
        self.states |= outcome.states
        for state in outcome.states.values():
            self.all_lots |= state.lots
        self.transactions += outcome.journal.transactions
        for entry in outcome.journal.entries:
            self.entries[entry.transaction_id].append(entry)
        self.remembered |= outcome.remembered
        self.told += outcome.journal.event_log.events
        return outcome.results

    def events(self, user_id: str) -> dict[str, int]:
        kinds = [event.kind for event in self.told if event.user_id == user_id]
        return _counted(kinds)

    def violations(self, user_ids: Sequence[str] | None = None) -> list[Violation]:
        found: list[Violation] = []
        for user_id, state in self.states.items():
            if user_ids is not None and user_id not in user_ids:
                continue
            lots = [lot for lot in self.all_lots.values() if lot.user_id == user_id]
            account_audit = AccountAudit(state.account, lots, state.keys.values())
            for transaction in self.transactions:
                if transaction.user_id == user_id:
                    account_audit.transaction(transaction, self.entries[transaction.id])
            own = [t for t in self.transactions if t.user_id == user_id]
            for hold in state.holds.values():
                account_audit.hold(hold, [t for t in own if t.hold_id == hold.id])
            for charge in own:
                refunds = [t for t in own if t.reverses_id == charge.id]
                audit_refunds(charge, refunds, account_audit.violations)
            found += account_audit.finish()
        return found

    def make_key(self, user_id: str, limits: Limits) -> str:
        key = KeySpending(new_id(), user_id)
        self.states[user_id].keys[key.key_id] = key
        self.limit_key(key.key_id, limits)
        return key.key_id

    def limit_key(self, key_id: str, limits: Limits) -> None:
        (key,) = (state.keys[key_id] for state in self.states.values() if key_id in state.keys)
        for name, nanos in _limit_settings(limits).items():
            setattr(key, name, nanos)

    def revoke_key(self, _key_id: str) -> None:
        """The rules do not ask whether a key is revoked."""

    def close(self) -> None:
        """Nothing is open."""


class WriterDriver:
    """The writer and the storage on a real database, in an event loop of their own."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self._runner = asyncio.Runner()
        self._database = open_database(database_url(url), DatabaseLimits())
        self._runner.run(migrate(self._database.writer))
        store = LedgerStore(self._database, render=render, clock=self.clock, events=EVENTS)
        self._keys = KeyStore(self._database, self.clock, render=render_key)
        self._writer = Writer(store, LedgerMetrics(CollectorRegistry()))
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._writer.start()

    def run(self, commands: Sequence[Command]) -> list[Result]:
        async def submit_all() -> list[Result]:
            return await asyncio.gather(*map(self._writer.submit, commands))

        return self._runner.run(submit_all())

    def violations(self, user_ids: Sequence[str] | None = None) -> list[Violation]:
        async def check() -> list[Violation]:
            async with self._database.reader.connect() as connection:
                return (await audit(connection, user_ids)).violations

        return self._runner.run(check())

    def events(self, user_id: str) -> dict[str, int]:
        query = select(webhook_events.c.kind).where(webhook_events.c.user_id == user_id)

        async def read() -> Sequence[str]:
            async with self._database.reader.connect() as connection:
                return (await connection.scalars(query)).all()

        return _counted(self._runner.run(read()))

    def make_key(self, user_id: str, limits: Limits) -> str:
        settings = dict.fromkeys(IssuedKey.__struct_fields__[4:12]) | {"expires_at_micros": None}
        settings |= {"account": user_id, "name": "app", "scopes": ("chat",)}
        settings |= _limit_settings(limits)
        made = self._runner.run(self._keys.create(settings, make_secret(), _ADMIN))
        return str(msgspec.json.decode(made.body)["key_id"])

    def limit_key(self, key_id: str, limits: Limits) -> None:
        self._runner.run(self._keys.change(key_id, _limit_settings(limits), _ADMIN))

    def revoke_key(self, key_id: str) -> None:
        self._runner.run(self._keys.revoke(key_id, _ADMIN))

    def close(self) -> None:
        self._runner.run(self._writer.close())
        self._runner.run(self._database.close())
        self._runner.close()


def _limit_settings(limits: Limits) -> dict[str, Any]:
    return {f"limit_{name}_nanos": nanos for name, nanos in limits.items()}


def _counted(kinds: Sequence[str]) -> dict[str, int]:
    return {kind: kinds.count(kind) for kind in ("balance.low", "hold.expired")}
