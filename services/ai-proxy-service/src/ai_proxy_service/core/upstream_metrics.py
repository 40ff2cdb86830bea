"""What is counted about calls to Gemini."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from ai_proxy_service.core.gemini import GeminiError
from service_kit.metrics import Readings

OTHER = "other"
# Google's canonical names of errors (google.rpc.Code), and ours for what is no answer at all. A
# label's values must be bounded, and an answer may say any word.
ERROR_KINDS = frozenset(
    {
        "aborted",
        "already_exists",
        "cancelled",
        "data_loss",
        "deadline_exceeded",
        "failed_precondition",
        "internal",
        "invalid_argument",
        "malformed",
        "not_found",
        "out_of_range",
        "permission_denied",
        "resource_exhausted",
        "unauthenticated",
        "unavailable",
        "unimplemented",
        "unknown",
        "unreachable",
    }
)


def kind_of(error: GeminiError) -> str:
    """Return the kind of an error, one of a bounded number."""
    kind = error.reason.lower()
    return kind if kind in ERROR_KINDS else OTHER


class UpstreamMetrics:
    """Errors of Gemini, and the keys that it does not take for the moment."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.errors = Counter(
            "gateway_upstream_errors",
            "Calls to Gemini that failed, before or during the answer, by kind.",
            ("kind",),
            registry=registry,
        )
        self.keys = Gauge(
            "gateway_gemini_keys",
            "Gemini's API keys that are configured.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.keys_set_aside = Gauge(
            "gateway_gemini_keys_set_aside",
            "Gemini's API keys that are not used for a while, in the worker that has most of them.",
            multiprocess_mode="livemax",
            registry=registry,
        )


def upstream_view(readings: Readings) -> Mapping[str, Any]:
    """Return the figures of Gemini as people read them."""
    errors = readings.by_label("gateway_upstream_errors_total", "kind")
    return {
        "repeats": int(readings.total("gateway_upstream_repeats_total")),
        "errors_by_kind": {kind: int(value) for kind, value in errors.items()},
        "keys": int(readings.total("gateway_gemini_keys")),
        "keys_set_aside": int(readings.total("gateway_gemini_keys_set_aside")),
    }
