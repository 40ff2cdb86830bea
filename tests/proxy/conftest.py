"""Parts of the proxy, made for one test."""

import pytest

from ai_proxy_service.core.metrics import ProxyMetrics


@pytest.fixture
def metrics() -> ProxyMetrics:
    return ProxyMetrics()
