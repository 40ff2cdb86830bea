"""Runs the named checks of one client in that client's own environment.

Where the gateway and the simulator listen stands in OPENAI_BASE_URL, OPENAI_API_KEY and
SIMULATOR_URL. Each check's outcome is written as one line of JSON.
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import httpx

Check = Callable[[], Any]

BASE_URL = os.environ.get("OPENAI_BASE_URL", "")
API_KEY = os.environ.get("OPENAI_API_KEY", "")
FLASH_25 = "gemini-2.5-flash"
FLASH_3 = "gemini-3-flash-preview"
FLASH_38 = "gemini-3.8-flash"
SMART = "smart"
WEATHER_CALL = '[[sim call=get_weather args="{\\"city\\":\\"Oslo\\"}"]]'
SENTINEL = "skip_thought_signature_validator"


class Simulator:
    """What stands in for Gemini."""

    def __init__(self) -> None:
        self._client = httpx.Client(base_url=os.environ.get("SIMULATOR_URL", ""), timeout=60)

    def forget(self) -> None:
        """Forget requests and faults."""
        for path in ("/control/requests", "/control/faults"):
            self._client.delete(path).raise_for_status()

    def bodies(self) -> list[dict[str, Any]]:
        """Return what it was asked, in order, once all is answered."""
        answer = self._client.get("/control/requests", params={"ended": "true", "timeout": 30})
        answer.raise_for_status()
        return [entry["body"] for entry in answer.json()["requests"]]


SIMULATOR = Simulator()
_checks: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Register a check, plain or async, under a name that begins with its number."""

    def register(run: Check) -> Check:
        assert name not in _checks, name
        _checks[name] = run
        return run

    return register


def run_all() -> None:
    """Run every registered check and report each."""
    for name, run in _checks.items():
        detail = ""
        try:
            SIMULATOR.forget()
            if inspect.iscoroutinefunction(run):
                asyncio.run(run())
            else:
                run()
        except Exception:  # noqa: BLE001 - whatever a client raises is the check's outcome
            detail = traceback.format_exc()
        report = {"name": name, "ok": not detail, "detail": detail}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


def call_parts(body: dict[str, Any], kind: str = "functionCall") -> list[dict[str, Any]]:
    """Return the parts of a request to Gemini that have a member, in their order."""
    return [part for content in body["contents"] for part in content["parts"] if kind in part]
