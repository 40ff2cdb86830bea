"""Price catalogues for tests: the shipped one, and ones of a single model."""

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

SHIPPED = Path(str(resources.files("ai_proxy_service.data") / "prices.json"))


def catalog_file(folder: Path, **changes: Any) -> Path:
    """Write a catalogue with one model `m`, whose fields the changes replace."""
    model = {
        "context_tokens": 1000,
        "max_output_tokens": 100,
        "rates": [{"input": 400, "output": 400}],
        **changes,
    }
    catalog = {
        "version": "test",
        "effective": "2026-01-01",
        "source": "test",
        "models": {"m": model},
    }
    path = folder / "prices.json"
    path.write_bytes(msgspec.json.encode(catalog))
    return path


def with_version(path: Path, version: str) -> Path:
    """Give a catalogue another version, as who changes prices does."""
    catalog = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**catalog, "version": version}))
    return path
