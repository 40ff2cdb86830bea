"""`/metrics`: JSON for people, Prometheus text for scrapers, the same figures in both."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service_kit.metrics import forget_dead_workers
from support.kit_app import AUTHORIZED, StartApp

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"


@pytest.mark.parametrize("accept", ["*/*", "", "application/json", "text/html,*/*;q=0.8"])
def test_people_read_json(start_app: StartApp, accept: str) -> None:
    response = start_app().get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"] == "application/json"
    assert response.json()["active"] == 1


def test_an_http_library_that_accepts_everything_gets_json(start_app: StartApp) -> None:
    accept = "application/json, text/plain, */*"

    response = start_app().get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_scrapers_get_their_text(start_app: StartApp, accept: str, content_type: str) -> None:
    client = start_app()
    client.get("/v1/items/7", headers=AUTHORIZED)

    response = client.get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"].startswith(content_type)
    assert (
        'http_server_requests_total{method="GET",route="/v1/items/{item_id}",status="200"} 1.0'
        in response.text
    )
    assert "# TYPE http_server_request_duration_seconds histogram" in response.text


def test_requests_are_counted_by_route_template_method_and_status(start_app: StartApp) -> None:
    client = start_app()
    for number in range(3):
        client.get(f"/v1/items/{number}", headers=AUTHORIZED)
    client.post("/v1/completions", headers=AUTHORIZED)
    client.get("/v1/teapot", headers=AUTHORIZED)

    figures = client.get("/metrics").json()

    assert figures["total"] == 5
    assert figures["by_route"] == {
        "/v1/completions": 1,
        "/v1/items/{item_id}": 3,
        "/v1/teapot": 1,
    }
    assert figures["by_method"] == {"GET": 4, "POST": 1}
    assert figures["by_status"] == {"200": 4, "418": 1}


def test_what_a_client_makes_up_never_becomes_a_label(start_app: StartApp) -> None:
    """Otherwise anyone could fill the memory with labels."""
    client = start_app()
    for number in range(20):
        client.get(f"/made-up/{number}", headers=AUTHORIZED)
    for method in ("PROPFIND", "MKCOL", "PURGE"):
        client.request(method, "/health")

    figures = client.get("/metrics").json()

    assert figures["by_route"] == {"/health": 3, "unmatched": 20}
    assert figures["by_method"] == {"GET": 20, "other": 3}


def test_a_stream_is_counted_when_it_ends(start_app: StartApp) -> None:
    client = start_app()

    with client.stream("GET", "/v1/stream", headers=AUTHORIZED) as response:
        chunks = response.iter_text()
        next(chunks)
        during = client.get("/metrics").json()
        client.post("/v1/stream/next", params={"word": ""}, headers=AUTHORIZED)
        assert list(chunks) == []

    after = client.get("/metrics").json()
    assert during["active"] == 2, "the stream and this request"
    assert "/v1/stream" not in during["by_route"]
    assert after["active"] == 1
    assert after["by_route"]["/v1/stream"] == 1


WORKER = """
import json, os, sys
from service_kit.metrics import HttpMetrics, MetricsRegistry
registry = MetricsRegistry()
metrics = HttpMetrics(registry.registry)
metrics.observe("GET", "/x", 200, 0.1)
metrics.in_flight.inc()
print(os.getpid(), flush=True)
sys.stdin.readline()
readings = registry.readings()
print(json.dumps([readings.total("http_server_requests_total"),
                  readings.total("http_server_active_requests")]), flush=True)
sys.stdin.readline()
"""


class _Worker:
    """A process that has counted something, and tells what it reads when it is asked."""

    def __init__(self, folder: Path, script: str = WORKER) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script],
            env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self._readline())

    def _readline(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def read_figures(self) -> list[Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        figures: list[Any] = json.loads(self._readline())
        return figures

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_any_worker_shows_the_figures_of_all(tmp_path: Path) -> None:
    workers = [_Worker(tmp_path) for _ in range(3)]

    figures = workers[1].read_figures()

    for worker in workers:
        worker.kill()
    assert figures == [3, 3]


def test_a_killed_workers_count_stays_and_its_open_requests_go(tmp_path: Path) -> None:
    survivor, killed = _Worker(tmp_path), _Worker(tmp_path)
    killed.kill()

    figures = survivor.read_figures()

    survivor.kill()
    assert figures == [2, 1]


LATE_WORKER = """
import json, os, sys
from service_kit.logging import configure_logging
from service_kit.loop_lag import LoopLag, loop_view
from service_kit.metrics import LimitStoreMetrics, MetricsRegistry
from service_kit.store_health import StoreHealth, limits_view
configure_logging(service="worker", level="CRITICAL", log_format="json")
registry = MetricsRegistry()
lag = LoopLag(registry.registry)
health = StoreHealth(LimitStoreMetrics(registry.registry), "redis://store")
lag.note({lag_seconds}, 0)
if {lost}:
    health.note_error(TimeoutError())
print(os.getpid(), flush=True)
sys.stdin.readline()
readings = registry.readings()
print(json.dumps([*loop_view(readings).values(), *limits_view(readings).values()]), flush=True)
"""


def test_any_worker_shows_the_longest_lag_of_all_and_that_one_has_lost_its_store(
    tmp_path: Path,
) -> None:
    scripts = [
        LATE_WORKER.format(lag_seconds=lag_seconds, lost=lost)
        for lag_seconds, lost in ((0.03, False), (0.09, True))
    ]
    well, late = (_Worker(tmp_path, script) for script in scripts)

    together = well.read_figures()
    late.kill()
    without_it = _Worker(tmp_path, scripts[0])
    alone = without_it.read_figures()

    for worker in (well, without_it):
        worker.kill()
    assert together == [0.06, 0.09, "redis", False, 1]
    assert alone == [0.05, 0.03, "redis", True, 1], "what is past and counted stays"


def test_only_what_dead_workers_claim_is_forgotten(tmp_path: Path) -> None:
    worker = _Worker(tmp_path)
    worker.kill()
    alive = tmp_path / "gauge_livesum_1.db"
    alive.touch()

    forget_dead_workers(str(tmp_path))

    assert alive.exists()
    assert not (tmp_path / f"gauge_livesum_{worker.pid}.db").exists()
    assert (tmp_path / f"counter_{worker.pid}.db").exists()
