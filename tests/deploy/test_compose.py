"""`docker-compose.yml`: what runs, who reaches whom, and that nothing has rights it does not need.

That the services accept what it gives them is in `tests/system/test_deployment_files.py`.
"""

import ipaddress
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ai_proxy_service.settings import ProxySettings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
ALWAYS = {"postgres", "redis", "migrate", "credits-service", "ai-proxy-service", "nginx"}
# Its image begins as root, to hand its volume to its own user.
ROOT_AT_FIRST = {"postgres"}


def default_of(value: object) -> str:
    """Return what Compose makes of a value with an empty `.env`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def test_the_file_is_what_the_compose_specification_says() -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            str(ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_runs_always_and_what_on_demand() -> None:
    profiles = {name: container.get("profiles", []) for name, container in CONTAINERS.items()}

    assert {name for name, needed in profiles.items() if not needed} == ALWAYS
    assert {name: needed for name, needed in profiles.items() if needed} == {
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
        "otel-collector": ["tracing"],
    }


@pytest.mark.parametrize("name", ["ai-proxy-service", "credits-service"])
def test_both_services_have_two_replicas(name: str) -> None:
    assert default_of(CONTAINERS[name]["deploy"]["replicas"]) == "2"
    # Two containers can't have one name, or one port of the host.
    assert not {"container_name", "ports"} & set(CONTAINERS[name])


def test_the_ledger_is_migrated_once_before_any_replica_starts() -> None:
    migrate = CONTAINERS["migrate"]

    assert migrate["command"] == ["credits", "migrate"]
    assert migrate["restart"] == "no"
    assert migrate["build"] == CONTAINERS["credits-service"]["build"]
    assert (
        migrate["environment"]["DATABASE_URL"]
        == (CONTAINERS["credits-service"]["environment"]["DATABASE_URL"])
    )


def test_each_container_waits_for_those_below_it() -> None:
    waits = {
        name: {below: how["condition"] for below, how in container["depends_on"].items()}
        for name, container in CONTAINERS.items()
        if name in ALWAYS and "depends_on" in container
    }

    assert waits == {
        "migrate": {"postgres": "service_healthy"},
        "credits-service": {
            "postgres": "service_healthy",
            "migrate": "service_completed_successfully",
        },
        "ai-proxy-service": {"credits-service": "service_healthy", "redis": "service_healthy"},
        "nginx": {"ai-proxy-service": "service_healthy"},
    }
    for name in ("postgres", "redis", "nginx"):
        assert "healthcheck" in CONTAINERS[name]


def test_everything_published_is_local_by_default() -> None:
    published = {
        name: [default_of(port) for port in container["ports"]]
        for name, container in CONTAINERS.items()
        if "ports" in container
    }

    assert published == {
        "nginx": ["127.0.0.1:8443:443"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_who_reaches_whom() -> None:
    networks: dict[str, set[str]] = {}
    for name, container in CONTAINERS.items():
        for network in container["networks"]:
            networks.setdefault(network, set()).add(name)

    assert networks == {
        "ledger": {
            "postgres", "redis", "migrate", "credits-service", "ai-proxy-service",
            "prometheus", "otel-collector",
        },
        "front": {"nginx", "ai-proxy-service"},
        "edge": {"ai-proxy-service"},
        "public": {"nginx"},
        "watch": {"prometheus", "grafana", "otel-collector"},
    }  # fmt: skip
    internal = {name for name, network in COMPOSE["networks"].items() if network}
    assert {name for name in internal if COMPOSE["networks"][name]["internal"]} == {
        "ledger",
        "front",
    }


def test_the_proxies_believe_nginx_about_addresses_and_nobody_else() -> None:
    believed = default_of(CONTAINERS["ai-proxy-service"]["environment"]["FORWARDED_ALLOW_IPS"])
    (pool,) = COMPOSE["networks"]["front"]["ipam"]["config"]

    assert believed == default_of(pool["subnet"])
    assert ipaddress.ip_network(believed).is_private


@pytest.mark.parametrize("name", sorted(set(CONTAINERS) - ROOT_AT_FIRST))
def test_containers_can_write_to_nothing_but_their_data(name: str) -> None:
    container = CONTAINERS[name]

    assert container["read_only"] is True
    assert container["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert "cap_add" not in container


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_no_container_has_or_gets_privileges(name: str) -> None:
    container = CONTAINERS[name]

    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(container)


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_images_are_of_a_version(name: str) -> None:
    container = CONTAINERS[name]
    image, _, tag = container["image"].partition(":")

    assert ("build" in container) != bool(tag)
    assert tag != "latest"
    assert "." not in image.partition("/")[0], "no registry is named"


def test_no_secret_stands_in_the_file() -> None:
    secrets = re.findall(r"(?:PASSWORD|KEYS?|SECRET|REDISCLI_AUTH): (.+)", TEXT)

    assert len(secrets) >= 7
    for value in secrets:
        assert "${" in value


def test_what_several_proxies_share_is_in_redis_which_forgets_nothing_by_itself() -> None:
    environment = CONTAINERS["ai-proxy-service"]["environment"]
    shared = ("RATE_LIMIT_STORAGE_URI", "CALL_MEMORY_URI", "ANSWER_STORE_URI")

    databases = [environment[name].rpartition("@")[2] for name in shared]
    assert databases == ["redis:6379/0", "redis:6379/1", "redis:6379/2"]
    command = " ".join(CONTAINERS["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_mounted_files_are_in_the_repository() -> None:
    sources = {
        default_of(volume["source"] if isinstance(volume, dict) else volume.split(":")[0])
        for container in CONTAINERS.values()
        for volume in container.get("volumes", [])
    }
    files = {source for source in sources if source.startswith(".")}
    made_by_hand = "./deploy/nginx/certificates"

    assert {source for source in files if not (ROOT / source).exists()} <= {made_by_hand}
    assert sources - files == set(COMPOSE["volumes"])


def test_nginx_has_longer_to_stop_than_a_stream_that_the_proxy_finishes() -> None:
    nginx = int(CONTAINERS["nginx"]["stop_grace_period"].removesuffix("s"))

    assert nginx >= ProxySettings.model_fields["drain_seconds"].default
    # Anything else would cut the streams that run.
    assert CONTAINERS["nginx"]["stop_signal"] == "SIGQUIT"


@pytest.mark.parametrize("name", ["collector.yaml"])
def test_the_collector_s_pipelines_use_what_is_declared(name: str) -> None:
    collector = yaml.safe_load((ROOT / "deploy" / "otel" / name).read_text(encoding="utf-8"))

    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])
    assert set(collector["receivers"]["otlp"]["protocols"]) == {"http", "grpc"}
