"""The running system as the clients of openai-contract.md §7 see it.

A test or check bears the number of what it checks in that list at the beginning of its name.
61 to 67 concern audio, images and responses, which have no endpoint here.

| numbers | where | client |
|---|---|---|
| 1-5, 35, 41, 42, 56, 57, 60 | test_basics.py | openai-python, plain HTTP |
| 7-10, 20-22, 26 | test_tools.py | openai-python |
| 11, 13, 17-19 | test_tool_history.py | openai-python |
| 23, 33, 34, 36-40, 44 | test_options.py | openai-python |
| 27-32 | test_messages.py | openai-python |
| 43, 45, 51-54 | test_endings.py | openai-python, plain HTTP |
| 46-50, 55 | test_errors.py | openai-python |
| 58, 68, 69, 70 | test_other_surfaces.py | openai-python, plain HTTP, curl, nginx |
| 6, 9, 12, 24, 59 | frameworks/langchain_checks.py | LangChain |
| 14 | frameworks/agents_checks.py | OpenAI Agents SDK, chat completions model |
| 16, 34, 58 | frameworks/llamaindex_checks.py | LlamaIndex |
| 1, 2, 4, 7-11, 18, 23, 46, 48-50, 52, 58, 60 | node/openai_checks.mjs | openai-node |
| 6, 9, 12, 24, 34, 58 | node/langchain_checks.mjs | LangChain JS |
| 2, 15, 25, 34, 43, 52, 58 | node/vercel_checks.mjs | Vercel AI SDK |
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.gateway import (
    ACCOUNT,
    APP_ORIGIN,
    ON_CLUSTER,
    SMART,
    SMART_MODEL,
    Gateway,
    forget,
    top_up,
)
from clients.scripts import TRUSTED_BY
from support.cluster import running_cluster
from support.stack import Stack, running_stack

_SETTINGS = {
    "MODEL_ALIASES": f"{SMART}={SMART_MODEL}",
    "MEDIA_ALLOWED_NETWORKS": "127.0.0.1/32",
    "CORS_ALLOWED_ORIGINS": APP_ORIGIN,
}
_UNLIMITED = {
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "RATE_LIMIT_COMPLETIONS_PER_MINUTE": "1000000",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, by name and reason, what can't be asked through nginx."""
    for item in items if ON_CLUSTER else ():
        if mark := item.get_closest_marker("one_proxy"):
            item.add_marker(pytest.mark.skip(reason=f"not on the cluster: {mark.args[0]}"))


@contextmanager
def _one_proxy(folder: Path) -> Iterator[Stack]:
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, url, _SETTINGS) as stack:
        yield stack


@contextmanager
def _cluster() -> Iterator[Stack]:
    with running_cluster(**_SETTINGS, **_UNLIMITED) as cluster, pytest.MonkeyPatch.context() as env:
        for name in TRUSTED_BY:
            env.setenv(name, cluster.certificate)
        stack = cluster.stack()
        with stack._exits:
            # The account of proxies that tests start beside it.
            top_up(stack, "tester", "1000")
            yield stack


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system; the account of the tests' key has credit for all of them.

    `CLIENTS_ON_CLUSTER=1`: nginx on TLS, two proxies, two ledgers, PostgreSQL and Redis.
    """
    running = _cluster() if ON_CLUSTER else _one_proxy(tmp_path_factory.mktemp("clients"))
    with running as stack:
        top_up(stack, ACCOUNT, "1000")
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The system, with nothing left of earlier tests in the simulator."""
    forget(shared_stack)
    return shared_stack


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    """The proxy."""
    return Gateway(stack, stack.proxy.url)


@pytest.fixture(scope="session")
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a line at once, as installing something may take a while."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.write_line(line)

    return say
