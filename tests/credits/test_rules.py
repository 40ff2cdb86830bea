"""The rules against an independent model, whatever order things happen in."""

from hypothesis import HealthCheck, settings

from credits.drivers import RulesDriver
from credits.machine import LedgerMachine


class RulesMachine(LedgerMachine):
    """The pure rules; the invariants are checked after every step."""

    make_driver = RulesDriver


RulesMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRules = RulesMachine.TestCase
