"""What the proxy counts, and the JSON view of it that operators read with curl."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from ai_proxy_service.core.key_metrics import KeyMetrics, keys_view
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.upstream_metrics import UpstreamMetrics, upstream_view
from ai_proxy_service.core.usage import TokenUsage
from service_kit.loop_lag import LoopLag, loop_view
from service_kit.metrics import (
    LATENCY_BUCKETS_SECONDS,
    HttpMetrics,
    MetricsRegistry,
    Readings,
    add_build_info,
    age_seconds,
)
from service_kit.store_health import limits_view

UNKNOWN_MODEL = "other"


class ProxyMetrics(MetricsRegistry):
    """Counters of one proxy. Labels are bounded: priced models only, never users or keys."""

    def __init__(self) -> None:
        super().__init__()
        registry = self.registry
        self.http = HttpMetrics(registry)
        self.loop_lag = LoopLag(registry)
        self.upstream = UpstreamMetrics(registry)
        add_build_info(registry, "gateway", "ai-proxy-service")
        self.started_at = time.time()
        self.completions = Counter(
            "gateway_completions", "Completions asked for.", ("model", "outcome"), registry=registry
        )
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time from the request to the end of the answer.",
            ("model",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Time from the request to the first chunk of a stream.",
            ("model",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=registry,
        )
        # Prometheus keeps no extremes; each process keeps its own, the scrape joins them.
        self.duration_min = Gauge(
            "gateway_completion_duration_min_seconds",
            "Shortest completion since the start; +Inf before the first.",
            multiprocess_mode="min",
            registry=registry,
        )
        self.duration_max = Gauge(
            "gateway_completion_duration_max_seconds",
            "Longest completion since the start.",
            multiprocess_mode="max",
            registry=registry,
        )
        self.tokens = Counter(
            "gen_ai_client_token_usage", "Tokens billed.", ("model", "type"), registry=registry
        )
        self.cost = Counter(
            "gateway_cost_nanousd",
            "Cost of all completions in nano-USD.",
            ("model",),
            registry=registry,
        )
        self.unpriced = Counter(
            "gateway_usage_without_price",
            "Completions that used what has no price; it was charged at the dearest that applies.",
            ("model", "kind"),
            registry=registry,
        )
        # By worker: the sum tells how many have taken over a version.
        self.price_catalog = Gauge(
            "gateway_price_catalog_info",
            "Workers that sell at this version of the price catalogue.",
            ("version",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.price_reload_failures = Counter(
            "gateway_price_catalog_reload_failures",
            "Changed price catalogues that were refused; the one before them stays in force.",
            registry=registry,
        )
        self.streams_open = Gauge(
            "gateway_streams_open",
            "Streams being sent now.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.hold_raises = Counter(
            "gateway_hold_raises",
            "Raises of holds and heartbeats in mid-stream.",
            registry=registry,
        )
        self.repeated = Counter(
            "gateway_upstream_repeats",
            "Requests made to Gemini a second time, by why: refused, or an unusable answer.",
            ("why",),
            registry=registry,
        )
        self.keys = KeyMetrics(registry)
        self.idempotent = Counter(
            "gateway_idempotent_requests",
            "Requests with an idempotency key that were answered: first, or repeated.",
            ("outcome",),
            registry=registry,
        )
        self.abandoned = Counter(
            "gateway_completions_abandoned",
            "Completions whose client left, by what was done with them.",
            ("mode",),
            registry=registry,
        )
        self.settlements_waiting = Gauge(
            "gateway_settlements_waiting",
            "Settlements in the outbox.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.settlements_oldest = Gauge(
            "gateway_settlements_oldest_timestamp_seconds",
            "When the oldest settlement in the outbox was put there, in seconds since 1970; "
            "0 if there is none.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.settlements_failed = Counter(
            "gateway_settlements_failed",
            "Settlements that the credits service refused for good; an operator must look.",
            registry=registry,
        )
        self.shortfalls = Counter(
            "gateway_shortfalls",
            "Charges that accounts could not pay in full.",
            registry=registry,
        )
        self.shortfall = Counter(
            "gateway_shortfall_nanousd",
            "Cost in nano-USD that accounts could not pay; the operator bore it.",
            registry=registry,
        )
        self.usage_log_waiting = Gauge(
            "gateway_usage_log_waiting",
            "Records of charges that are not written yet.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.usage_log_lost = Counter(
            "gateway_usage_log_lost",
            "Records of charges that could not be kept; the charges themselves stand.",
            registry=registry,
        )
        self.holds_open = Gauge(
            "gateway_holds_open",
            "Holds of completions that run now.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._min_seconds = float("inf")
        self._max_seconds = 0.0
        # Until it has answered one, a worker must not be the smallest of all.
        self.duration_min.set(self._min_seconds)

    def sells_at(self, version: str, before: str | None = None) -> None:
        """Note which version of the price catalogue this process sells at."""
        if before is not None:
            # A series can't be removed from the files that workers share.
            self.price_catalog.labels(before).set(0)
        self.price_catalog.labels(version).set(1)

    def completed(self, model: str, usage: TokenUsage, cost_nanos: int) -> None:
        """Count the tokens and the cost of a completion that was charged, or cost nothing."""
        self.tokens.labels(model, "input").inc(usage.input_tokens)
        self.tokens.labels(model, "output").inc(usage.output_tokens)
        self.cost.labels(model).inc(cost_nanos)

    def answered(self, model: str, *, successful: bool, seconds: float) -> None:
        """Count a request for a completion once its answer has ended."""
        self.completions.labels(model, "successful" if successful else "failed").inc()
        self.duration.labels(model).observe(seconds)
        self._min_seconds = min(self._min_seconds, seconds)
        self._max_seconds = max(self._max_seconds, seconds)
        self.duration_min.set(self._min_seconds)
        self.duration_max.set(self._max_seconds)

    def json_view(self, readings: Readings) -> Mapping[str, Any]:
        """Return the figures of identity: requests, tokens, billing and performance."""
        requests = readings.by_label("gateway_completions_total", "outcome")
        successful, failed = requests.get("successful", 0), requests.get("failed", 0)
        total = successful + failed
        count = readings.total("gen_ai_client_operation_duration_seconds_count")
        seconds = readings.total("gen_ai_client_operation_duration_seconds_sum")
        chunks = readings.total("gen_ai_client_operation_time_to_first_chunk_seconds_count")
        chunk_seconds = readings.total("gen_ai_client_operation_time_to_first_chunk_seconds_sum")
        tokens = readings.by_label("gen_ai_client_token_usage_total", "type")
        prompt, completion = int(tokens.get("input", 0)), int(tokens.get("output", 0))
        by_model = readings.by_label("gateway_completions_total", "model")
        statuses = readings.by_label("http_server_requests_total", "status")
        return {
            "service": "ai-proxy-service",
            "timestamp": datetime.now(UTC).isoformat(),
            "uptime_seconds": round(time.time() - self.started_at, 3),
            "requests": {
                "total": int(total),
                "successful": int(successful),
                "failed": int(failed),
                "success_rate_percent": round(100 * successful / total, 2) if total else 100.0,
                "by_model": {model: int(value) for model, value in by_model.items()},
            },
            "tokens": {
                "total": prompt + completion,
                "prompt": prompt,
                "completion": completion,
            },
            "billing": {
                "total_cost_usd": _usd(readings, "gateway_cost_nanousd_total"),
                "shortfall_usd": _usd(readings, "gateway_shortfall_nanousd_total"),
                "holds_open": int(readings.total("gateway_holds_open")),
                "settlements_waiting": int(readings.total("gateway_settlements_waiting")),
                "settlements_oldest_age_seconds": age_seconds(
                    readings.total("gateway_settlements_oldest_timestamp_seconds")
                ),
                "settlements_failed": int(readings.total("gateway_settlements_failed_total")),
                "hold_raises": int(readings.total("gateway_hold_raises_total")),
                "refused_402": int(statuses.get("402", 0)),
            },
            "performance": {
                "avg_response_time_seconds": round(seconds / count, 6) if count else 0.0,
                "min_response_time_seconds": (
                    round(readings.total("gateway_completion_duration_min_seconds"), 6)
                    if count
                    else 0.0
                ),
                "max_response_time_seconds": round(
                    readings.total("gateway_completion_duration_max_seconds"), 6
                ),
                "avg_time_to_first_chunk_seconds": (
                    round(chunk_seconds / chunks, 6) if chunks else 0.0
                ),
                "event_loop": loop_view(readings),
            },
            "streams": {
                "open": int(readings.total("gateway_streams_open")),
                "abandoned": int(readings.total("gateway_completions_abandoned_total")),
            },
            "prices": {
                "workers_by_version": {
                    version: int(workers)
                    for version, workers in readings.by_label(
                        "gateway_price_catalog_info", "version"
                    ).items()
                    if workers
                },
                "reload_failures": int(
                    readings.total("gateway_price_catalog_reload_failures_total")
                ),
                "usage_without_price": int(readings.total("gateway_usage_without_price_total")),
            },
            "usage_log": {
                "waiting": int(readings.total("gateway_usage_log_waiting")),
                "lost": int(readings.total("gateway_usage_log_lost_total")),
            },
            "upstream": upstream_view(readings),
            "limits": limits_view(readings),
            "keys": keys_view(readings),
            "http": {
                "total": int(sum(statuses.values())),
                "in_flight": int(readings.total("http_server_active_requests")),
                "rate_limited_429": int(statuses.get("429", 0)),
                "rate_limited_by": {
                    limit: int(value)
                    for name in ("http_server_rate_limited", "gateway_key_limits_reached")
                    for limit, value in readings.by_label(f"{name}_total", "limit").items()
                },
                "by_status": {status: int(value) for status, value in statuses.items()},
            },
        }


def _usd(readings: Readings, name: str) -> msgspec.Raw:
    """Return a sum as a JSON number with all its digits; a float would round it."""
    return msgspec.Raw(usd_text(int(readings.total(name))).encode())
