"""What is counted about the ledger."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from credits_service.core.money_metrics import MoneyMetrics
from service_kit.metrics import add_build_info

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class LedgerMetrics:
    """The ledger's metrics; labels are bounded: never a user or a key."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.money = MoneyMetrics(registry)
        add_build_info(registry, "ledger", "credits-service")
        self.operations = Counter(
            "ledger_operations",
            "Operations answered, by kind and by HTTP status.",
            ("operation", "status"),
            registry=registry,
        )
        self.replays = Counter(
            "ledger_replays",
            "Answers given again for an idempotency key that was used before.",
            registry=registry,
        )
        self.batch_size = Histogram(
            "ledger_batch_size",
            "Commands in one transaction.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.batch_duration = Histogram(
            "ledger_batch_duration_seconds",
            "Time of one transaction, its retries included.",
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self.unavailable = Counter(
            "ledger_unavailable",
            "Commands that got no answer from the database.",
            registry=registry,
        )
        self.webhook_attempts = Counter(
            "ledger_webhook_attempts",
            "Attempts to deliver an event, by what came of them.",
            ("outcome",),
            registry=registry,
        )
        self.webhooks_failed = Counter(
            "ledger_webhooks_failed",
            "Events that were given up; the receiver was never told.",
            registry=registry,
        )
        self.webhooks_waiting = Gauge(
            "ledger_webhooks_waiting",
            "Events that wait for their delivery, counted once a minute.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.keys_verified = Counter(
            "credits_keys_verified",
            "Issued keys that were asked about, by what was said of them.",
            ("outcome",),
            registry=registry,
        )
        self._children: dict[tuple[str, int], Counter] = {}

    def count(self, operation: str, status: int, *, replayed: bool) -> None:
        """Count an answered operation."""
        child = self._children.get((operation, status))
        if child is None:
            child = self.operations.labels(operation, str(status))
            self._children[(operation, status)] = child
        child.inc()
        if replayed:
            self.replays.inc()
