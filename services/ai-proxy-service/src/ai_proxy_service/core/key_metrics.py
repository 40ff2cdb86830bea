"""What is counted about issued keys; labels are bounded, and never name a key."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from service_kit.metrics import Readings


class KeyMetrics:
    """Counters of checks, and of uses that were refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.checks = Counter(
            "gateway_key_checks",
            "Issued keys that the credits service was asked about: accepted, refused, or failed.",
            ("outcome",),
            registry=registry,
        )
        self.limits_reached = Counter(
            "gateway_key_limits_reached",
            "Requests that a limit of their issued key refused, by limit.",
            ("limit",),
            registry=registry,
        )
        self.refused = Counter(
            "gateway_key_uses_refused",
            "Uses of issued keys that the gateway refused, by reason.",
            ("reason",),
            registry=registry,
        )
        self.refusals_lost = Counter(
            "gateway_key_refusals_lost",
            "Refused uses that could not be put on the records of their keys.",
            registry=registry,
        )


def keys_view(readings: Readings) -> Mapping[str, Any]:
    """Return the figures about issued keys for the JSON view."""
    return {
        "checks": _by(readings, "gateway_key_checks_total", "outcome"),
        "limits_reached": _by(readings, "gateway_key_limits_reached_total", "limit"),
        "uses_refused": _by(readings, "gateway_key_uses_refused_total", "reason"),
        "refusals_lost": int(readings.total("gateway_key_refusals_lost_total")),
    }


def _by(readings: Readings, name: str, label: str) -> dict[str, int]:
    return {value: int(count) for value, count in readings.by_label(name, label).items()}
