"""Hypothesis drives the ledger and the model with the same operations and compares them."""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from credits.drivers import LOW_BALANCE_NANOS, START_MICROS, Driver
from credits.machine_draws import (
    AMOUNTS,
    BOUNDS,
    DAY,
    EXPIRIES,
    GRANTS,
    ITEMS,
    LIFETIMES,
    NAMES,
    PICKS,
    RECENT,
    SECOND,
    TERMS,
    TTLS,
    latest,
)
from credits.model import Model
from credits.model_books import NO_KEY, Answer, Key, ModelCharge, ModelHold
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
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

Expected = tuple[Operation, Answer, Callable[[dict[str, Any]], None] | None]


class LedgerMachine(RuleBasedStateMachine):
    """One ledger, some accounts, any order of operations, duplicates and the passing of time."""

    make_driver: ClassVar[Callable[[], Driver]]
    examples_run: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.driver = type(self).make_driver()
        type(self).examples_run += 1
        # Examples that share a database get accounts and keys of their own.
        self.prefix = f"{type(self).examples_run}-"
        self.clock = self.driver.clock
        self.clock.micros = START_MICROS
        self.model = Model(LOW_BALANCE_NANOS, now=self.clock.micros)
        self.holds: list[tuple[str, ModelHold]] = []
        self.charges: list[tuple[str, ModelCharge]] = []
        self.not_charges: list[tuple[str, str]] = []
        self.sent: list[tuple[Command, Result]] = []
        self.closed: list[str] = []
        self.keys_used = 0

    def teardown(self) -> None:
        assert self.driver.violations(sorted(self.model.accounts)) == []
        for user_id, account in self.model.accounts.items():
            wanted = {"balance.low": account.low_balances, "hold.expired": account.expired_holds}
            assert self.driver.events(user_id) in (None, wanted)
        self.driver.close()

    def _user(self, name: str) -> str:
        if name == "closed":
            return self.closed[-1] if self.closed else self._user("ann")
        generation = sum(user_id.endswith(name) for user_id in self.closed)
        return f"{self.prefix}{generation}-{name}"

    def _command(self, operation: Operation) -> Command:
        self.keys_used += 1
        key = IdempotencyKey("tester", f"{self.prefix}{self.keys_used}")
        is_keyless = isinstance(operation, AmendHold | ReleaseHold | SettleDue)
        return Command(operation, "tester", f"req_{self.keys_used}", None if is_keyless else key)

    def _run(self, *expected: Expected) -> None:
        """Run the operations as one batch; each is answered as the model says."""
        commands = [self._command(operation) for operation, _answer, _then in expected]
        results = self.driver.run(commands)
        for command, result, (_operation, answer, then) in zip(
            commands, results, expected, strict=True
        ):
            status, fields = answer
            assert result.status == status, result.body
            body = msgspec.json.decode(result.body)
            assert {name: body.get(name) for name in fields} == fields
            if then is not None and status < 300:
                then(body)
            if command.key and (status == 402 or status < 300):
                self.sent.append((command, result))
        assert self.driver.violations(sorted(self.model.accounts)) == []

    def _top_up(self, user_id: str, amount: int, priority: int, lifetime: int | None) -> Expected:
        expires_at = None if lifetime is None else self.clock.micros + lifetime * SECOND
        answer = self.model.top_up(user_id, amount, priority, expires_at)
        operation = TopUp(user_id, amount, priority=priority, expires_at_micros=expires_at)
        return operation, answer, self._remember_other(user_id)

    def _bill(self, user_id: str, amount: int, key: Key = NO_KEY) -> Expected:
        answer, charge = self.model.bill(user_id, amount, key[1])
        operation = Charge(user_id, amount, "completion", key_id=key[0])
        return operation, answer, self._remember(charge)

    def _remember(self, charge: ModelCharge | None) -> Callable[[dict[str, Any]], None]:
        def then(body: dict[str, Any]) -> None:
            assert charge is not None
            self.charges.append((body["transaction_id"], charge))

        return then

    def _remember_other(self, user_id: str) -> Callable[[dict[str, Any]], None]:
        return lambda body: self.not_charges.append((body["transaction_id"], user_id))

    def _hold(
        self, user_id: str, amount: int, minimum: int | None, ttl: int, key: Key = NO_KEY
    ) -> Expected:
        answer, hold = self.model.place(user_id, amount, minimum, ttl * SECOND, key[1])

        def then(body: dict[str, Any]) -> None:
            assert hold is not None
            self.holds.append((body["hold_id"], hold))

        return PlaceHold(user_id, amount, ttl * SECOND, minimum, key_id=key[0]), answer, then

    def _some_hold(self, pick: int) -> tuple[str, ModelHold]:
        return latest(sorted(self.holds, key=lambda item: item[1].status == "active"), pick)

    def _some_charge(self, pick: int) -> tuple[str, ModelCharge]:
        return latest(sorted(self.charges, key=lambda item: item[1].rest() > 0), pick)

    def _amend(self, pick: int, amount: int | None, ttl: int | None, progress: int) -> Expected:
        hold_id, hold = self._some_hold(pick)
        micros = None if ttl is None else ttl * SECOND
        answer = self.model.amend(hold, amount, micros, progress)
        return AmendHold(hold_id, amount, micros, progress), answer, None

    def _capture(self, pick: int, amount: int, *, final: bool) -> Expected:
        hold_id, hold = self._some_hold(pick)
        answer, charge = self.model.capture(hold, amount, final=final)
        operation = Charge(hold.user_id, amount, hold_id=hold_id, final=final)
        return operation, answer, self._remember(charge)

    def _release(self, pick: int) -> Expected:
        hold_id, hold = self._some_hold(pick)
        return ReleaseHold(hold_id), self.model.release(hold), None

    def _refund(self, pick: int, amount: int | None) -> Expected:
        transaction_id, charge = self._some_charge(pick)
        operation = Refund(transaction_id, "not what was asked for", amount)
        answer = self.model.refund(charge, amount)
        return operation, answer, self._remember_other(charge.user_id)

    def _change(self, user_id: str, asked: dict[str, Any], *, forfeit: bool = False) -> Expected:
        answer = self.model.change(user_id, asked, forfeit=forfeit)
        settings = {TERMS[name]: value for name, value in asked.items() if name in TERMS}
        status = asked.get("status")
        return ChangeAccount(user_id, status, forfeit, settings), answer, None

    @initialize(ann=st.integers(30, 400), bob=st.integers(0, 400), lifetime=EXPIRIES)
    def begin(self, ann: int, bob: int, lifetime: int | None) -> None:
        """Most of what there is to test needs credit; rules are left out of many examples."""
        self._run(self._top_up(self._user("ann"), ann, 1, None))
        self._run(self._top_up(self._user("ann"), ann // 2, 0, lifetime))
        if bob:
            self._run(self._top_up(self._user("bob"), bob, 0, lifetime))

    @rule(seconds=st.integers(1, 25))
    def time_passes(self, seconds: int) -> None:
        self.clock.micros += seconds * SECOND
        self.model.now = self.clock.micros

    @rule(days=st.integers(1, 40))
    def days_pass(self, days: int) -> None:
        self.clock.micros += days * DAY
        self.model.now = self.clock.micros

    @rule(name=NAMES, amount=GRANTS, priority=st.integers(0, 2), lifetime=EXPIRIES)
    def top_up(self, name: str, amount: int, priority: int, lifetime: int | None) -> None:
        self._run(self._top_up(self._user(name), amount, priority, lifetime))

    @rule(name=NAMES, amount=AMOUNTS)
    def bill(self, name: str, amount: int) -> None:
        self._run(self._bill(self._user(name), amount))

    @rule(name=NAMES, amount=AMOUNTS, minimum=st.none() | AMOUNTS, ttl=TTLS)
    def place_hold(self, name: str, amount: int, minimum: int | None, ttl: int) -> None:
        minimum = None if minimum is None else min(minimum, amount)
        self._run(self._hold(self._user(name), amount, minimum, ttl))

    @precondition(lambda self: self.holds)
    @rule(
        pick=RECENT,
        amount=st.none() | GRANTS,
        ttl=st.none() | LIFETIMES,
        progress=st.integers(0, 80),
    )
    def amend_hold(self, pick: int, amount: int | None, ttl: int | None, progress: int) -> None:
        self._run(self._amend(pick, amount, ttl, progress))

    @precondition(lambda self: self.holds)
    @rule(pick=RECENT, amount=st.integers(1, 90), final=st.booleans())
    def capture(self, pick: int, amount: int, final: bool) -> None:
        self._run(self._capture(pick, amount, final=final))

    @precondition(lambda self: self.holds)
    @rule(pick=RECENT)
    def release(self, pick: int) -> None:
        self._run(self._release(pick))

    @precondition(lambda self: self.charges)
    @rule(pick=RECENT, amount=st.none() | AMOUNTS)
    def refund(self, pick: int, amount: int | None) -> None:
        self._run(self._refund(pick, amount))

    @rule(pick=RECENT)
    def refund_of_what_is_no_charge(self, pick: int) -> None:
        """A top-up or refund; or nothing at all."""
        answer: Answer = (404, {"code": "transaction_not_found"})
        transaction_id = "unknown"
        if self.not_charges:
            transaction_id, user_id = latest(self.not_charges, pick)
            self.model.settle_due(user_id)
            is_closed = self.model.accounts[user_id].terms["status"] == "closed"
            answer = (409, {"code": "account_closed" if is_closed else "not_refundable"})
        self._run((Refund(transaction_id, "by mistake"), answer, None))

    @rule(name=NAMES, status=st.sampled_from(("open", "frozen", "open")))
    def freeze_or_open(self, name: str, status: str) -> None:
        self._run(self._change(self._user(name), {"status": status}))

    @rule(name=NAMES, day=BOUNDS, month=BOUNDS, total=BOUNDS, low=st.none() | AMOUNTS, only=PICKS)
    def set_terms(self, name: str, only: int, **bounds: int | None) -> None:
        """Limits and thresholds, one or several at once."""
        bounds["low_balance"] = bounds.pop("low")
        names = sorted(bounds)[only % 4 :][: 1 + only % 3]
        self._run(self._change(self._user(name), {name: bounds[name] for name in names}))

    @rule(name=NAMES, forfeit=st.integers(0, 3))
    def close(self, name: str, forfeit: int) -> None:
        user_id = self._user(name)
        expected = self._change(user_id, {"status": "closed"}, forfeit=forfeit == 3)
        self._run(expected)
        if expected[1][0] == 200 and user_id not in self.closed:
            self.closed.append(user_id)

    @rule(name=NAMES, items=ITEMS)
    def batch(self, name: str, items: list[tuple[int, int, int, bool]]) -> None:
        """Each operation stands for itself: one that is refused stops no other."""
        user_id = self._user(name)
        self._run(*(self._item(user_id, *item) for item in items))

    def _item(self, user_id: str, what: int, amount: int, pick: int, flag: bool) -> Expected:
        if what > 1 and not (self.charges if what == 2 else self.holds):
            what = 6
        maybe = amount if flag else None
        choices: list[Callable[[], Expected]] = [
            lambda: self._top_up(user_id, amount, pick % 3, 1 + pick if flag else None),
            lambda: self._hold(user_id, amount, 1 if flag else None, 1 + pick),
            lambda: self._refund(pick, maybe),
            lambda: self._capture(pick, amount, final=flag),
            lambda: self._amend(pick, maybe, None, amount),
            lambda: self._release(pick),
            lambda: self._bill(user_id, amount),
        ]
        return choices[what]()

    @precondition(lambda self: self.sent)
    @rule(pick=RECENT)
    def duplicate(self, pick: int) -> None:
        """The answer is the first one's, byte for byte, and nothing changes."""
        command, first = latest(self.sent, pick)
        for _ in range(2):
            assert self.driver.run([command]) == [Result(first.status, first.body, replayed=True)]

    @precondition(lambda self: self.sent)
    @rule(pick=RECENT)
    def key_with_another_body(self, pick: int) -> None:
        command, _first = latest(self.sent, pick)
        other = msgspec.structs.replace(command, operation=Charge("somebody else", 1))
        (result,) = self.driver.run([other])
        assert result.status == 422, result.body

    @rule(name=NAMES)
    def sweep(self, name: str) -> None:
        user_id = self._user(name)
        self.model.settle_due(user_id)
        self._run((SettleDue(user_id), (200, {}), None))
