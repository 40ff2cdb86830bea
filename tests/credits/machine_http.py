"""The machine against a running service: `python -m credits.machine_http DATABASE_URL`.

A process of its own, so that the engines are tested side by side.
"""

import copy
import sys
from decimal import Decimal
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credits.client import app_of
from credits.drivers import Clock
from credits.http_driver import HttpDriver
from credits.machine_draws import DAY, NAMES, PICKS, RECENT
from credits.machine_keys import KeyedMachine
from credits.machine_runs import run_machine
from credits.model_books import moment, usd
from service_kit.logging import configure_logging
from support.live_server import live_server

_NEVER_SECONDS = 3600.0
_LONG_AGO, _FAR = 0, 4_000_000_000_000_000


def _nanos(text: str) -> int:
    """Read what may be negative or nothing."""
    return int(Decimal(text).scaleb(9))


class HttpMachine(KeyedMachine):
    """Every step through its endpoint; after each the accounts of the example are audited."""

    driver: HttpDriver
    shared: ClassVar[HttpDriver]

    @staticmethod
    def make_driver() -> HttpDriver:
        return HttpMachine.shared

    def _known(self, name: str) -> str | None:
        user_id = self._user(name)
        return user_id if user_id in self.model.accounts else None

    @precondition(lambda self: self.model.accounts)
    @rule(name=NAMES)
    def read_account(self, name: str) -> None:
        """What is due counts as settled, before anything has booked it."""
        user_id = self._known(name)
        if user_id is None:
            return
        settled = copy.deepcopy(self.model)
        settled.settle_due(user_id)
        wanted = settled.account_fields(user_id) | {"seq": self.model.accounts[user_id].seq}
        found = self.driver.read(f"/accounts/{user_id}")
        assert {name: found[name] for name in wanted} == wanted
        assert sum(_nanos(lot["remaining"]) for lot in found["lots"]) == settled.balance(user_id)
        free = sorted(lot.left for lot in settled.accounts[user_id].lots if lot.left)
        told = [_nanos(lot["remaining"]) - _nanos(lot["held"]) for lot in found["lots"]]
        assert sorted(filter(None, told)) == free

    @precondition(lambda self: self.model.accounts)
    @rule(name=NAMES, pick=PICKS, off=st.integers(-1, 1), days=st.integers(0, 60))
    def read_balance_at(self, name: str, pick: int, off: int, days: int) -> None:
        user_id = self._known(name)
        if user_id is None:
            return
        history = self.model.accounts[user_id].history
        micros = history[pick % len(history)][0] + off if pick % 2 else self.clock.micros
        micros -= days * DAY if pick % 3 == 0 else 0
        found = self.driver.read(f"/accounts/{user_id}", at=moment(micros))
        assert found["at"] == moment(micros)
        assert found["balance"] == usd(self.model.balance_at(user_id, micros))

    @precondition(lambda self: self.model.accounts)
    @rule(name=NAMES, first=PICKS, last=PICKS, limit=st.integers(1, 5))
    def read_statement(self, name: str, first: int, last: int, limit: int) -> None:
        """Opening balance and entries make the closing balance, whatever the period."""
        user_id = self._known(name)
        if user_id is None:
            return
        moments = [_LONG_AGO, *(at for at, _nanos in self.model.accounts[user_id].history), _FAR]
        begin, end = sorted((moments[first % len(moments)], moments[-1 - last % len(moments)]))
        query = {"from": moment(begin), "to": moment(end), "limit": str(limit)}
        path = f"/accounts/{user_id}/statement"
        page = self.driver.read(path, **query)
        pages = [page]
        while page["next_cursor"] is not None:
            page = self.driver.read(path, limit=str(limit), cursor=page["next_cursor"])
            pages.append(page)
        found: list[dict[str, Any]] = [row for page in pages for row in page["transactions"]]
        opening = self.model.balance_at(user_id, begin - 1)
        closing = self.model.balance_at(user_id, end - 1)
        for page in pages:
            assert (page["opening_balance"], page["closing_balance"]) == (
                usd(opening),
                usd(closing),
            )
            assert sum(map(_nanos, page["totals"].values())) == closing - opening
        assert opening + sum(_nanos(row["amount"]) for row in found) == closing
        numbers = [row["seq"] for row in found]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        if (begin, end) == (_LONG_AGO, _FAR):
            assert len(numbers) == self.model.accounts[user_id].seq

    @precondition(lambda self: self.holds)
    @rule(pick=RECENT)
    def read_hold(self, pick: int) -> None:
        """What can be spent now is told within the limits of the hold's key."""
        hold_id, hold = self._some_hold(pick)
        settled = copy.deepcopy(self.model)
        settled.settle_due(hold.user_id)
        wanted = settled.hold_fields(settled.holds[hold.number])
        wanted["seq"] = self.model.accounts[hold.user_id].seq
        found = self.driver.read(f"/holds/{hold_id}")
        assert {name: found[name] for name in wanted} == wanted

    @precondition(lambda self: self.holds)
    @rule(name=NAMES, active=st.booleans())
    def read_holds(self, name: str, active: bool) -> None:
        """Newest first, as last booked."""
        user_id = self._known(name)
        if user_id is None:
            return
        query = {"status": "active"} if active else {}
        page = self.driver.read(f"/accounts/{user_id}/holds", limit="500", **query)
        own = [
            (hold_id, hold.status)
            for hold_id, hold in reversed(self.holds)
            if hold.user_id == user_id and (hold.status == "active" or not active)
        ]
        assert [(hold["hold_id"], hold["status"]) for hold in page["holds"]] == own


def main() -> None:
    """Run the machine on one service and one database; in the end all of it is audited."""
    configure_logging(service="credits-service", level="WARNING", log_format="console")
    clock = Clock()
    app = app_of(sys.argv[1], clock, sweep_interval_seconds=_NEVER_SECONDS)
    with live_server(app) as base_url:
        HttpMachine.shared = HttpDriver(base_url, clock)
        run_machine(HttpMachine)
        clock.micros = _FAR
        assert HttpMachine.shared.violations() == []
    sys.stdout.write(f"{HttpMachine.examples_run} examples\n")


if __name__ == "__main__":
    main()
