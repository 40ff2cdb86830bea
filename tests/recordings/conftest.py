"""The proxy as a real process, in front of a server that plays the recordings."""

import json
from collections.abc import Iterator

import httpx
import pytest

from recordings.corpus import USUAL_MODEL, chat_recordings
from recordings.settings import (
    CLIENT_KEY,
    GEMINI_KEY,
    INPUT_NANOS,
    LOOKUP_NANOS,
    OUTPUT_NANOS,
    OUTPUT_TOKENS_MAX,
    PICO_PER_NANO,
)
from support.processes import ServiceProcess
from support.replay_server import ReplayServer, replay_server

TIMEOUT_SECONDS = 60


def price(model: str) -> dict[str, object]:
    """Return a price under which a model may do whatever was recorded of it."""
    modalities = ["text", "image"] if "image" in model else ["text"]
    return {
        "context_tokens": 1_048_576,
        "max_output_tokens": OUTPUT_TOKENS_MAX,
        "rates": [{"input": INPUT_NANOS * PICO_PER_NANO, "output": OUTPUT_NANOS * PICO_PER_NANO}],
        "output_modalities": modalities,
        "search_query": LOOKUP_NANOS * PICO_PER_NANO,
        "maps_query": LOOKUP_NANOS * PICO_PER_NANO,
    }


@pytest.fixture(scope="session")
def replay() -> Iterator[ReplayServer]:
    with replay_server() as server:
        yield server


@pytest.fixture(scope="session")
def proxy(replay: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the proxy that has its key; the proxy's log must stay clean."""
    folder = tmp_path_factory.mktemp("proxy")
    models = {recording.model for recording in chat_recordings()} | {USUAL_MODEL}
    catalog = {
        "version": "test",
        "effective": "2026-11-22",
        "source": "made up",
        "models": {model: price(model) for model in sorted(models)},
    }
    (folder / "prices.json").write_text(json.dumps(catalog))
    settings = {
        "API_KEYS": f"tester:{CLIENT_KEY}",
        "GEMINI_API_KEY": GEMINI_KEY,
        "GEMINI_BASE_URL": replay.url,
        "PRICE_CATALOG_PATH": str(folder / "prices.json"),
        "RATE_LIMIT_ENABLED": "false",
        "DATA_DIR": str(folder),
        "DRAIN_SECONDS": "3",
    }
    with (
        ServiceProcess("ai-proxy-service", settings, cwd=folder) as process,
        httpx.Client(
            base_url=process.url,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=TIMEOUT_SECONDS,
        ) as client,
    ):
        yield client
    log = "\n".join(process.lines)
    assert GEMINI_KEY not in log
    assert "Traceback" not in log, log[log.index("Traceback") :][:5000]
