"""The project's services as the benchmarks start them: everything on that production has on."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.processes import BenchmarkError, Running, command, fetch_json

CLIENT_KEY = "sk-client-bench-000000000000"
SERVICE_KEY = "sk-service-bench-00000000000"
ADMIN_KEY = "sk-admin-bench-0000000000000"
GEMINI_KEY = "AIza-bench-000000000000000"
# A limit that is kept and counted, but never reached.
_NO_LIMIT = str(10**9)


def bearer(key: str) -> dict[str, str]:
    """Return the headers of a JSON request with a key."""
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}


def start_ledger(
    url: str,
    folder: Path,
    name: str = "credits-service",
    more_settings: Mapping[str, str] = MappingProxyType({}),
) -> Running:
    """Start the credits service on a database, empty or not."""
    settings = {
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "API_KEYS": f"bench:{SERVICE_KEY}",
        "ADMIN_API_KEYS": f"operator:{ADMIN_KEY}",
        **more_settings,
    }
    return Running(command("credits-service"), settings, folder / f"{name}.log")


def proxy_settings(upstream: str, folder: Path, ledger: str | None = None) -> dict[str, str]:
    """Return the settings of a proxy; without a ledger its charges are only logged."""
    settings = {
        "API_KEYS": f"bench:{CLIENT_KEY}",
        "GEMINI_API_KEY": GEMINI_KEY,
        "GEMINI_BASE_URL": upstream,
        "DATA_DIR": str(folder),
        "RATE_LIMIT_PER_MINUTE": _NO_LIMIT,
        "RATE_LIMIT_COMPLETIONS_PER_MINUTE": _NO_LIMIT,
    }
    if ledger:
        settings |= {"CREDITS_SERVICE_URL": ledger, "CREDITS_SERVICE_API_KEY": SERVICE_KEY}
    return settings


def start_proxy(upstream: str, folder: Path, ledger: str | None = None) -> Running:
    """Start the proxy."""
    name = "billed" if ledger else "unbilled"
    settings = proxy_settings(upstream, folder, ledger)
    return Running(command("ai-proxy-service"), settings, folder / f"proxy-{name}.log")


def top_up(ledger: Running, user: str, usd: int) -> None:
    """Give an account credit."""
    body = json.dumps({"user_id": user, "amount": str(usd)}).encode()
    headers = {**bearer(ADMIN_KEY), "idempotency-key": f"topup-{user}"}
    fetch_json(f"{ledger.url}/api/v1/topup", headers, body)


def balance_nanos(ledger: Running, user: str) -> int:
    """Return an account's balance; nothing of it may be held."""
    found = fetch_json(f"{ledger.url}/api/v1/accounts/{user}", bearer(SERVICE_KEY))
    if nanos(found["held"]):
        raise BenchmarkError(f"{found['held']} USD are still held")
    return nanos(found["balance"])


def nanos(usd: str) -> int:
    """Convert an amount that the API wrote, exactly."""
    whole, _, fraction = usd.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


def check_integrity(ledger: Running) -> None:
    """Have the ledger check every invariant of what was written."""
    found = fetch_json(f"{ledger.url}/api/v1/integrity", bearer(ADMIN_KEY))
    if not found["ok"] or found["violations"]:
        raise BenchmarkError(f"the ledger is not sound: {found['violations'][:3]}")
