"""Hypothesis drives the ledger and the model with the same operations and compares them."""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from credits.drivers import START_MICROS, Driver
from credits.model import Model
from credits_service.core.money import usd_from_nanos
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import (
    AmendHold,
    Charge,
    Operation,
    PlaceHold,
    ReleaseHold,
    SettleDue,
    TopUp,
)

USERS = st.sampled_from(("ann", "bob"))
AMOUNTS = st.integers(1, 60)
LIFETIMES = st.integers(1, 40)


class LedgerMachine(RuleBasedStateMachine):
    """One ledger, two accounts, any order of operations, duplicates and the passing of time."""

    make_driver: ClassVar[Callable[[], Driver]]
    examples_run: ClassVar[int] = 0

    holds = Bundle("holds")
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.driver = type(self).make_driver()
        type(self).examples_run += 1
        # Examples that share a database get accounts and keys of their own.
        self.prefix = f"{type(self).examples_run}-"
        self.clock = self.driver.clock
        self.clock.micros = max(self.clock.micros, START_MICROS)
        self.model = Model(now=self.clock.micros)
        self.keys_used = 0
        self.requests_made = 0

    def teardown(self) -> None:
        assert self.driver.violations() == []
        self.driver.close()

    def _user(self, name: str) -> str:
        return self.prefix + name

    def _new_key(self) -> IdempotencyKey:
        self.keys_used += 1
        return IdempotencyKey("tester", f"{self.prefix}{self.keys_used}")

    def _command(self, operation: Operation, key: IdempotencyKey | None = None) -> Command:
        self.requests_made += 1
        return Command(operation, "tester", f"req_{self.requests_made}", key)

    def _run(self, operation: Operation, key: IdempotencyKey | None = None) -> Result:
        (result,) = self.driver.run([self._command(operation, key)])
        return result

    def _check(self, result: Result, status: int, user_id: str) -> dict[str, Any]:
        """The answer has the status and, if it tells figures, those of the model."""
        assert result.status == status, result.body
        body: dict[str, Any] = msgspec.json.decode(result.body)
        if "balance" in body:
            held, available = self.model.held(user_id), self.model.available(user_id)
            assert body["held"] == usd_from_nanos(held)
            assert body["available"] == usd_from_nanos(available)
            assert body["balance"] == usd_from_nanos(held + available)
        if status == 402:
            assert body["available"] == usd_from_nanos(self.model.available(user_id))
        return body

    @rule(seconds=st.integers(1, 25))
    def time_passes(self, seconds: int) -> None:
        self.clock.micros += seconds
        self.model.now = self.clock.micros

    @rule(
        target=sent,
        name=USERS,
        amount=AMOUNTS,
        priority=st.integers(0, 2),
        lifetime=st.none() | LIFETIMES,
    )
    def top_up(
        self, name: str, amount: int, priority: int, lifetime: int | None
    ) -> tuple[Command, Result]:
        user_id = self._user(name)
        expires_at = None if lifetime is None else self.clock.micros + lifetime
        self.model.settle_due(user_id)
        status = self.model.top_up(user_id, amount, priority, expires_at)
        operation = TopUp(user_id, amount, priority=priority, expires_at_micros=expires_at)
        command = self._command(operation, self._new_key())
        (result,) = self.driver.run([command])
        self._check(result, status, user_id)
        return command, result

    @rule(target=sent, name=USERS, amount=AMOUNTS)
    def bill(self, name: str, amount: int) -> tuple[Command, Result]:
        user_id = self._user(name)
        self.model.settle_due(user_id)
        status = self.model.bill(user_id, amount)
        command = self._command(Charge(user_id, amount), self._new_key())
        (result,) = self.driver.run([command])
        self._check(result, status, user_id)
        return command, result

    @rule(name=USERS, amounts=st.lists(AMOUNTS, min_size=2, max_size=6))
    def bills_of_one_batch(self, name: str, amounts: list[int]) -> None:
        """Each stands for itself: one that can't be paid stops no other."""
        user_id = self._user(name)
        self.model.settle_due(user_id)
        statuses = [self.model.bill(user_id, amount) for amount in amounts]
        commands = [self._command(Charge(user_id, amount)) for amount in amounts]
        assert [result.status for result in self.driver.run(commands)] == statuses

    @rule(request=sent)
    def duplicate(self, request: tuple[Command, Result]) -> None:
        """The answer is the first one's, byte for byte, and nothing changes."""
        command, first = request
        again = self.driver.run([command, command])
        assert again == [Result(first.status, first.body, replayed=True)] * 2

    @rule(request=sent)
    def key_with_another_body(self, request: tuple[Command, Result]) -> None:
        command, _first = request
        assert self._run(Charge("somebody else", 1), command.key).status == 422

    @rule(
        target=holds,
        name=USERS,
        amount=AMOUNTS,
        minimum=st.none() | AMOUNTS,
        ttl=LIFETIMES,
    )
    def place_hold(self, name: str, amount: int, minimum: int | None, ttl: int) -> str:
        user_id = self._user(name)
        minimum = None if minimum is None else min(minimum, amount)
        self.model.settle_due(user_id)
        status, reserved = self.model.place(user_id, amount, minimum)
        result = self._run(PlaceHold(user_id, amount, ttl, minimum), self._new_key())
        if status == 402:
            self._check(result, status, user_id)
            return ""
        hold_id: str = msgspec.json.decode(result.body)["hold_id"]
        self.model.add_hold(hold_id, user_id, reserved, ttl)
        body = self._check(result, status, user_id)
        assert body["amount"] == usd_from_nanos(reserved)
        return hold_id

    @precondition(lambda self: self.model.holds)
    @rule(
        hold_id=holds.filter(bool),
        amount=st.none() | AMOUNTS,
        ttl=st.none() | LIFETIMES,
        progress=st.integers(0, 80),
    )
    def amend_hold(self, hold_id: str, amount: int | None, ttl: int | None, progress: int) -> None:
        hold = self.model.holds[hold_id]
        self.model.settle_due(hold.user_id)
        status = self.model.amend(hold, amount, ttl, progress)
        result = self._run(AmendHold(hold_id, amount, ttl, progress))
        self._check(result, status, hold.user_id)

    @precondition(lambda self: self.model.holds)
    @rule(hold_id=holds.filter(bool), amount=st.integers(1, 90), final=st.booleans())
    def capture(self, hold_id: str, amount: int, final: bool) -> None:
        hold = self.model.holds[hold_id]
        account = self.model.accounts[hold.user_id]
        self.model.settle_due(hold.user_id)
        charged, shortfall = account.charged, account.shortfall
        status = self.model.capture(hold, amount, final=final)
        operation = Charge(hold.user_id, amount, hold_id=hold_id, final=final)
        body = self._check(self._run(operation, self._new_key()), status, hold.user_id)
        if status == 200:
            assert body["amount"] == usd_from_nanos(account.charged - charged)
            assert body["shortfall"] == usd_from_nanos(account.shortfall - shortfall)
            assert body["requested"] == usd_from_nanos(amount)

    @precondition(lambda self: self.model.holds)
    @rule(hold_id=holds.filter(bool))
    def release(self, hold_id: str) -> None:
        hold = self.model.holds[hold_id]
        self.model.settle_due(hold.user_id)
        status = self.model.release(hold)
        body = self._check(self._run(ReleaseHold(hold_id)), status, hold.user_id)
        assert body["status"] == hold.status

    @rule(name=USERS)
    def sweep(self, name: str) -> None:
        user_id = self._user(name)
        self.model.settle_due(user_id)
        assert self._run(SettleDue(user_id)).status == 200

    @invariant()
    def nothing_is_negative(self) -> None:
        assert all(self.model.available(user_id) >= 0 for user_id in self.model.accounts)
