"""One simulator for all tests of this folder, forgetting between tests."""

from collections.abc import Iterator

import pytest

from simulator.wire_client import WireClient
from support.processes import ServiceProcess


@pytest.fixture(scope="session")
def simulator_url() -> Iterator[str]:
    settings = {
        "SIMULATOR_INVALID_API_KEYS": "revoked, other",
        "SIMULATOR_MAX_BODY_BYTES": "200000",
    }
    with ServiceProcess("gemini-simulator", settings) as process:
        yield process.url


@pytest.fixture
def gemini(simulator_url: str) -> Iterator[WireClient]:
    client = WireClient(simulator_url)
    with client.http:
        client.control("DELETE", "faults")
        client.control("DELETE", "requests")
        yield client
