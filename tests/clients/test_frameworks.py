"""LangChain, LlamaIndex and the Agents SDK, each in its own environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clients.environments import FRAMEWORKS, HERE, python_environment, token_table_folder
from clients.gateway import forget
from clients.scripts import Outcome, check_names, run_script
from support.stack import Stack

# The first test of a session builds an environment.
pytestmark = pytest.mark.timeout(600)

ENVIRONMENTS = {
    "langchain": "langchain-agents",
    "agents": "langchain-agents",
    "llamaindex": "llamaindex",
}
CHECKS = [
    (client, name)
    for client in ENVIRONMENTS
    for name in check_names(FRAMEWORKS / f"{client}_checks.py")
]
Outcomes = Callable[[str], dict[str, Outcome]]


@pytest.fixture(scope="session")
def pythons(progress: Callable[[str], None]) -> dict[str, Path]:
    """The interpreter of each environment."""
    return {name: python_environment(name, progress) for name in set(ENVIRONMENTS.values())}


@pytest.fixture(scope="session")
def outcomes(pythons: dict[str, Path], shared_stack: Stack) -> Outcomes:
    """What became of the checks of a client; they run once, when they are first asked for."""
    known: dict[str, dict[str, Outcome]] = {}
    settings = {
        "PYTHONPATH": str(HERE.parent),
        "TIKTOKEN_CACHE_DIR": str(token_table_folder(pythons["llamaindex"])),
    }

    def of(client: str) -> dict[str, Outcome]:
        if client not in known:
            script = FRAMEWORKS / f"{client}_checks.py"
            python = pythons[ENVIRONMENTS[client]]
            known[client] = run_script(python, script, shared_stack, settings)
            forget(shared_stack)
        return known[client]

    return of


@pytest.mark.parametrize(("client", "name"), CHECKS)
def test_check(outcomes: Outcomes, client: str, name: str) -> None:
    outcome = outcomes(client)[name]

    if not outcome.ok:
        pytest.fail(outcome.detail, pytrace=False)
