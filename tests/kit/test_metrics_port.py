"""Metrics can be taken off the public port."""

from pathlib import Path

import httpx
import pytest

from support.kit_app import AUTHORIZED
from support.kit_process import kit_process
from support.postgres_cluster import free_port


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_have_a_port_of_their_own(tmp_path: Path, workers: str) -> None:
    """There they are, with health, and nothing else; on the public port they are not."""
    port = free_port()
    with (
        kit_process(tmp_path, METRICS_PORT=str(port), WORKERS=workers) as process,
        httpx.Client(base_url=process.url, headers=AUTHORIZED, timeout=30) as public,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=AUTHORIZED, timeout=30
        ) as operators,
    ):
        assert public.get("/v1/whoami").status_code == 200
        hidden = public.get("/metrics")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
        # No header of a client's moves it to the other port.
        moved = public.get("/metrics", headers={"host": f"127.0.0.1:{port}"})
        assert moved.status_code == 404

        assert operators.get("/metrics").json()["by_route"]["/v1/whoami"] == 1
        assert operators.get("/health").status_code == 200
        assert operators.get("/ready").status_code == 200
        assert operators.get("/v1/whoami").status_code == 404


def test_a_metrics_port_that_is_taken_is_explained(tmp_path: Path) -> None:
    port = free_port()
    with kit_process(tmp_path, PORT=str(port)):
        process = kit_process(tmp_path, METRICS_PORT=str(port))
        assert process.wait() == 1
    (line,) = process.lines
    assert f"Port {port} on 127.0.0.1 is already in use" in line
    assert "set METRICS_PORT to another one" in line
