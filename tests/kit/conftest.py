"""The kit's app, running, and clients that talk to it."""

from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from support.kit_app import KEY, KitSettings, StartApp, kit_app
from support.live_server import live_server


@pytest.fixture(autouse=True)
def log_entries() -> Iterator[list[MutableMapping[str, Any]]]:
    """Collect what is logged, before it is formatted."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def start_app() -> Iterator[StartApp]:
    """Start the kit's app with the given settings; return a client of it."""
    with ExitStack() as stack:

        def start(
            *,
            key_headers: tuple[bytes, ...] = (),
            limit_known_callers: bool = True,
            **settings: Any,
        ) -> httpx.Client:
            app = kit_app(
                KitSettings(**{"api_keys": f"tester:{KEY}", **settings}),
                key_headers=key_headers,
                limit_known_callers=limit_known_callers,
            )
            url = stack.enter_context(live_server(app))
            return stack.enter_context(httpx.Client(base_url=url, timeout=30))

        yield start
