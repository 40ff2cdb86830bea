"""One running system for the tests that don't change it; each test uses its own account."""

from collections.abc import Iterator

import pytest

from support.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system on an embedded ledger, with the `rest` client."""
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}") as stack:
        yield stack


@pytest.fixture(scope="session")
def sdk_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The same with Google's SDK."""
    folder = tmp_path_factory.mktemp("sdk-stack")
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with running_stack(folder, url, {"GEMINI_CLIENT": "sdk"}) as stack:
        yield stack


@pytest.fixture(params=["rest", "sdk"])
def any_stack(request: pytest.FixtureRequest) -> Stack:
    """The system with each of the two Gemini clients."""
    name = "stack" if request.param == "rest" else "sdk_stack"
    stack: Stack = request.getfixturevalue(name)
    return stack
