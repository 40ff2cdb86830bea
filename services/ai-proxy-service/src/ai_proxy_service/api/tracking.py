"""Counts one completion from the request to the end of its answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ai_proxy_service.core.metrics import UNKNOWN_MODEL, ProxyMetrics
from service_kit.access_log import note_elapsed


class Tracker:
    """One completion's measurements.

    Attributes:
        model: the model, once it is known to be one of ours: anything else would let clients
            make up labels.
    """

    def __init__(self, metrics: ProxyMetrics) -> None:
        self.model = UNKNOWN_MODEL
        self._metrics = metrics
        self._start = time.perf_counter()
        self._finished = False

    @property
    def elapsed_seconds(self) -> float:
        """Time since the request came."""
        return time.perf_counter() - self._start

    def first_chunk(self) -> None:
        """Note that Gemini has begun to answer."""
        note_elapsed("time_to_first_token_ms")
        self._metrics.first_chunk.labels(self.model).observe(self.elapsed_seconds)

    def finish(self, *, successful: bool) -> None:
        """Count the completion, once."""
        if self._finished:
            return
        self._finished = True
        self._metrics.answered(self.model, successful=successful, seconds=self.elapsed_seconds)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Count a completion as failed that ends in an error before its answer has begun."""
        try:
            yield
        except BaseException:
            self.finish(successful=False)
            raise

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream as open; one that ends in any other way than `finish` failed."""
        self._metrics.streams_open.inc()
        try:
            yield
        finally:
            self._metrics.streams_open.dec()
            self.finish(successful=False)
