"""The running system that the files of `deploy/` are tried on."""

from collections.abc import Iterator

import pytest

from support.stack import MODEL, Stack, running_stack, say


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system on an embedded ledger; a stream, a whole answer and a refusal were served."""
    folder = tmp_path_factory.mktemp("deployed")
    with running_stack(folder, f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}") as stack:
        client = stack.openai()
        user = stack.account("5")
        client.chat.completions.create(model=MODEL, messages=say("hello"), user=user)
        list(
            client.chat.completions.create(
                model=MODEL, messages=say("hello"), user=user, stream=True
            )
        )
        yield stack
