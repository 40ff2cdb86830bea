"""Orders for the relay's tests."""

from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from ai_proxy_service.core.order import Order
from ai_proxy_service.core.price_catalog import load_catalog

CATALOG = load_catalog(
    Path(str(resources.files("ai_proxy_service.data") / "prices.json")), Decimal(1)
)
INPUT_NANOS_PER_10 = 3_000
OUTPUT_NANOS = 2_500


def make_order(**changes: Any) -> Order:
    """Make an order for gemini-2.5-flash: 300 nano-USD a token in, 2,500 out."""
    values: dict[str, Any] = {
        "completion_id": "chatcmpl-test",
        "request_id": "req_test",
        "account": "alice",
        "key_name": "tester",
        "model": "gemini-2.5-flash",
        "price": CATALOG.models["gemini-2.5-flash"],
        "catalog_version": CATALOG.version,
        "body": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        "prompt_bound_tokens": 116,
        "max_output_tokens": 65_536,
        "least_thinking": {"thinkingBudget": 0},
        "streamed": True,
    }
    return Order(**{**values, **changes})
