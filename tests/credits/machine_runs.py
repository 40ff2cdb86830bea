"""How long the machine runs, and how a run is repeated.

`LEDGER_EXAMPLES` makes runs longer (`make test-ledger-long`), `LEDGER_SEED` repeats one;
`LEDGER_SHRINK=no` takes the first failure as it is, where only its existence matters.
"""

import os
import random
import sys

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from credits.machine import LedgerMachine

EXAMPLES = 300
STEPS = 50


def is_long() -> bool:
    """Whether more was asked for than what CI runs."""
    return "LEDGER_EXAMPLES" in os.environ


def run_machine(
    machine: type[LedgerMachine], *, examples: int = EXAMPLES, steps: int = STEPS
) -> None:
    """Run examples of a machine; the seed is printed, and shown if one fails."""
    examples = int(os.environ.get("LEDGER_EXAMPLES", examples))
    number = int(os.environ.get("LEDGER_SEED", random.randrange(2**32)))  # noqa: S311 - no secret
    phases = [Phase.generate]
    if os.environ.get("LEDGER_SHRINK") != "no":
        phases.append(Phase.shrink)
    sys.stdout.write(f"To repeat: LEDGER_SEED={number} LEDGER_EXAMPLES={examples}\n")
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=phases,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
