"""The rules with a calendar, for tests of what a day or a month brings."""

from datetime import datetime
from typing import Any

import msgspec

from credits.drivers import RulesDriver
from credits_service.core.moments import micros_from_datetime
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import Operation, TopUp


class CalendarLedger:
    """One account with 1000 nanos, in the middle of January 2027."""

    def __init__(self) -> None:
        self.driver = RulesDriver()
        self.at("2027-01-15T00:00:00")
        self.do(TopUp("ann", 1000))

    def at(self, moment: str) -> None:
        self.driver.clock.micros = micros_from_datetime(datetime.fromisoformat(f"{moment}Z"))

    def do(self, operation: Operation) -> dict[str, Any]:
        (result,) = self.driver.run([Command(operation, "tester", "req")])
        body: dict[str, Any] = msgspec.json.decode(result.body)
        return body | {"status_code": result.status}
