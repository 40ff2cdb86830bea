"""openai-node, LangChain JS and the Vercel AI SDK, where Node is installed."""

from collections.abc import Callable

import pytest

from clients.environments import NODE, install_node_packages, node_problem
from clients.gateway import forget
from clients.scripts import Outcome, check_names, run_script
from support.stack import Stack

# The first test of a session installs packages.
pytestmark = pytest.mark.timeout(600)

CLIENTS = ("openai", "langchain", "vercel")
CHECKS = [
    (client, name) for client in CLIENTS for name in check_names(NODE / f"{client}_checks.mjs")
]
Outcomes = Callable[[str], dict[str, Outcome]]


@pytest.fixture(scope="session")
def node(progress: Callable[[str], None]) -> str:
    """The program, with the clients installed."""
    problem = node_problem()
    if problem is not None:
        pytest.skip(f"The clients in JavaScript are not tried: {problem}")
    install_node_packages(progress)
    return "node"


@pytest.fixture(scope="session")
def outcomes(node: str, shared_stack: Stack) -> Outcomes:
    """What became of the checks of a client; they run once, when they are first asked for."""
    known: dict[str, dict[str, Outcome]] = {}

    def of(client: str) -> dict[str, Outcome]:
        if client not in known:
            script = NODE / f"{client}_checks.mjs"
            known[client] = run_script(node, script, shared_stack, {})
            forget(shared_stack)
        return known[client]

    return of


@pytest.mark.parametrize(("client", "name"), CHECKS)
def test_check(outcomes: Outcomes, client: str, name: str) -> None:
    outcome = outcomes(client)[name]

    if not outcome.ok:
        pytest.fail(outcome.detail, pytrace=False)
