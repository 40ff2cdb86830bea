"""The proxy's app for tests that run it in their own process, or in one that will be killed."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr

from ai_proxy_service.main import create_app
from ai_proxy_service.settings import ProxySettings
from support.stack import CLIENT_KEY, GEMINI_KEY


def proxy_app(urls: Mapping[str, str], service_key: str, folder: Path, **settings: Any) -> FastAPI:
    """Make the app.

    Args:
        urls: those of the `simulator` and the `ledger`.
        service_key: what the ledger knows it by.
        folder: where it keeps its files.
        settings: more of them.
    """
    return create_app(
        ProxySettings(
            _env_file=None,
            api_keys=SecretStr(f"tester:{CLIENT_KEY}"),
            gemini_api_key=SecretStr(GEMINI_KEY),
            gemini_base_url=urls["simulator"],
            credits_service_url=urls["ledger"],
            credits_service_api_key=SecretStr(service_key),
            call_memory_uri=SecretStr("memory://"),
            data_dir=folder,
            drain_seconds=3,
            **{"rate_limit_enabled": False, **settings},
        )
    )


async def wait_until_nothing_runs() -> None:
    """Return once the proxy, which is in this loop, has ended what it does without a client."""
    names = ("open-", "drain-", "raise-", "settle-", "undo-", "withdraw-")
    while running := {task for task in asyncio.all_tasks() if task.get_name().startswith(names)}:
        await asyncio.wait(running)
