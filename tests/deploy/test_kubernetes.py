"""What `deploy/kubernetes` asks a cluster for: valid, without privileges, and true to the code."""

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from service_kit.keys import BadKeySettingError
from service_kit.settings import CommonSettings
from support.kustomize import Object, objects_of, pod_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "kubernetes" / "overlays" / "example"
OBJECTS = objects_of(EXAMPLE)
WORKLOADS = [
    one for one in OBJECTS if one["kind"] in {"Deployment", "StatefulSet", "Job", "CronJob"}
]
SETTINGS: dict[str, type[CommonSettings]] = {
    "ai-proxy-service": ProxySettings,
    "credits-service": CreditsSettings,
}
SERVICES = sorted(SETTINGS)
# Charges that are under way when the drain is over still have their calls' own time limits.
LAST_CALLS_SECONDS = 15


def named(kind: str, name: str) -> Object:
    (found,) = [one for one in OBJECTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def workload(service: str) -> Object:
    return named("StatefulSet" if service == "ai-proxy-service" else "Deployment", service)


def identity(one: Object) -> str:
    return f"{one['kind']}-{one['metadata']['name']}"


def container_of(owner: Object) -> Object:
    (container,) = pod_of(owner)["spec"]["containers"]
    return dict(container)


def environment_of(service: str) -> dict[str, str]:
    """Return what a service's container finds in its environment."""
    found: dict[str, str] = {}
    for source in container_of(workload(service))["envFrom"]:
        for reference, kind, data in (
            ("configMapRef", "ConfigMap", "data"),
            ("secretRef", "Secret", "stringData"),
        ):
            if reference in source:
                found |= named(kind, source[reference]["name"])[data]
    direct = {one["name"]: one["value"] for one in container_of(workload(service))["env"]}
    return found | direct


def settings_of(service: str, environment: dict[str, str]) -> CommonSettings:
    settings = {name.lower(): value for name, value in environment.items()}
    return SETTINGS[service](_env_file=None, **settings)  # type: ignore[arg-type]  # as read from the environment


@pytest.mark.parametrize("one", OBJECTS, ids=identity)
def test_objects_are_what_kubernetes_says_they_are(one: Object) -> None:
    if one["apiVersion"].startswith("monitoring.coreos.com/"):
        # The operator's own kind: it must at least find the pods and their port.
        (endpoint,) = one["spec"]["podMetricsEndpoints"]
        ports = container_of(workload(one["metadata"]["name"]))["ports"]
        assert endpoint["port"] in {port["name"] for port in ports}
        return

    kubernetes_validate.validate(one, "1.30", strict=True)


def test_kubectl_makes_the_same_objects() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; the same files are read without it")
    done = subprocess.run(
        [kubectl, "kustomize", str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

    rendered: list[Object] = list(yaml.safe_load_all(done.stdout))
    # The names of what is generated end with a hash of what is in it.
    names = {identity(one).rpartition("-")[0] for one in rendered if generated(one)}
    names |= {identity(one) for one in rendered if not generated(one)}
    assert names == {identity(one) for one in OBJECTS}
    for one in rendered:
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "prepaid-ai-gateway"
        if one["kind"] in {"Deployment", "StatefulSet"}:
            assert container_of(one)["image"].endswith(":0.1.0")


def generated(one: Object) -> bool:
    return one["kind"] in {"ConfigMap", "Secret"}


@pytest.mark.parametrize("owner", WORKLOADS, ids=identity)
def test_pods_have_no_privileges(owner: Object) -> None:
    pod = pod_of(owner)["spec"]
    container = container_of(owner)

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert {volume["mountPath"] for volume in container["volumeMounts"]} <= {"/tmp", "/data"}  # noqa: S108 - the container's
    levels = named("Namespace", "prepaid-ai-gateway")["metadata"]["labels"]
    assert levels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_restarted_when_dead_and_left_alone_while_its_ledger_is_away(
    service: str,
) -> None:
    container = container_of(workload(service))
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "liveness", "readiness")
    }

    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["http"] == SETTINGS[service].model_fields["port"].default


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_has_longer_to_end_than_it_takes(service: str) -> None:
    environment = environment_of(service)
    fields = SETTINGS[service].model_fields
    delay = float(environment["SHUTDOWN_DELAY_SECONDS"])
    drain = float(environment.get("DRAIN_SECONDS", fields["drain_seconds"].default))

    # Endpoints are forgotten while the pod still serves.
    assert delay >= 5
    grace = pod_of(workload(service))["spec"]["terminationGracePeriodSeconds"]
    # Answers whose client has left are read on for half as long again.
    assert grace >= delay + 1.5 * drain + LAST_CALLS_SECONDS


@pytest.mark.parametrize("service", SERVICES)
def test_one_replica_may_be_lost_and_replicas_are_spread(service: str) -> None:
    (budget,) = [
        one["spec"]
        for one in OBJECTS
        if one["kind"] == "PodDisruptionBudget" and one["metadata"]["name"] == service
    ]
    scaling = named("HorizontalPodAutoscaler", service)["spec"]
    spread = pod_of(workload(service))["spec"]["topologySpreadConstraints"]
    labels = pod_of(workload(service))["metadata"]["labels"]

    assert scaling["minReplicas"] >= 2
    assert scaling["scaleTargetRef"]["kind"] == workload(service)["kind"]
    # The autoscaler decides how many; an `apply` must not undo it.
    assert "replicas" not in workload(service)["spec"]
    assert budget.get("minAvailable") == 1 or budget.get("maxUnavailable") == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert {one["topologyKey"] for one in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_an_outbox_outlives_its_pod() -> None:
    proxies = named("StatefulSet", "ai-proxy-service")["spec"]
    (claim,) = proxies["volumeClaimTemplates"]
    mounts = {
        mount["name"]: mount["mountPath"]
        for mount in container_of(workload("ai-proxy-service"))["volumeMounts"]
    }

    assert mounts[claim["metadata"]["name"]] == "/data"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert set(proxies["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    shared = ("RATE_LIMIT_STORAGE_URI", "CALL_MEMORY_URI", "ANSWER_STORE_URI", "USAGE_LOG_URL")
    environment = environment_of("ai-proxy-service")
    assert all(environment[name] for name in shared)


def test_two_versions_never_write_one_ledger() -> None:
    assert workload("credits-service")["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("kind", "name", "command"),
    [
        ("Job", "credits-migrate", ["credits", "migrate"]),
        ("CronJob", "credits-verify", ["credits", "verify"]),
    ],
)
def test_the_ledger_s_tools_run_with_its_own_address(
    kind: str, name: str, command: list[str]
) -> None:
    container = container_of(named(kind, name))

    assert container["command"] == command
    assert container["image"] == container_of(workload("credits-service"))["image"]
    (variable,) = container["env"]
    reference = variable["valueFrom"]["secretKeyRef"]
    assert reference["key"] in named("Secret", reference["name"])["stringData"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_every_setting_that_it_is_given(service: str) -> None:
    names = {name.upper() for name in SETTINGS[service].model_fields}

    assert set(environment_of(service)) <= names


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_s_secrets_are_none_and_once_filled_in_are_accepted(service: str) -> None:
    environment = environment_of(service)
    secret = named("Secret", service)["stringData"]
    assert all("<" in value for value in secret.values())
    with pytest.raises((ValueError, BadKeySettingError)):
        settings_of(service, environment)

    filled = {name: filled_in(value) for name, value in environment.items()}

    assert settings_of(service, filled).api_keys


def filled_in(value: str) -> str:
    for place in ("<PostgreSQL>", "<Redis>"):
        value = value.replace(place, "10.0.10.5")
    while "<" in value:
        before, _, rest = value.partition("<")
        value = before + secrets.token_hex(24) + rest.partition(">")[2]
    return value


def allowed(policy: str, direction: str) -> list[Any]:
    found: list[Any] = named("NetworkPolicy", policy)["spec"].get(direction, [])
    return found


def ports_of(rules: list[Any]) -> set[int]:
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_nobody_reaches_anybody_who_is_not_named() -> None:
    nobody = named("NetworkPolicy", "nobody")["spec"]
    assert nobody["podSelector"] == {}
    assert set(nobody["policyTypes"]) == {"Ingress", "Egress"}
    assert not {"ingress", "egress"} & set(nobody)

    assert ports_of(allowed("ai-proxy-service", "ingress")) == {8002, 9102}
    assert ports_of(allowed("ai-proxy-service", "egress")) == {8001, 443}
    assert ports_of(allowed("credits-service", "ingress")) == {8001}
    # The way out to the Internet leads past private networks, the cloud's own metadata included.
    (block,) = [
        peer["ipBlock"]
        for rule in allowed("ai-proxy-service", "egress")
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(block["except"])


def test_the_ingress_shows_the_api_alone_and_leaves_streams_whole() -> None:
    ingress = named("Ingress", "ai-proxy-service")
    notes = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in ingress["metadata"]["annotations"].items()
    }
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]

    assert [path["path"] for path in paths] == ["/v1/"]
    assert ingress["spec"]["tls"]
    assert notes["proxy-buffering"] == "off"
    assert int(notes["proxy-read-timeout"]) >= 300
    assert "non_idempotent" not in notes["proxy-next-upstream"]
    port = named("Service", "ai-proxy-service")["spec"]["ports"][0]
    assert paths[0]["backend"]["service"]["port"]["name"] == port["name"]


def test_metrics_are_on_a_port_that_the_ingress_can_t_reach() -> None:
    environment = environment_of("ai-proxy-service")
    ports = {
        port["name"]: port["containerPort"]
        for port in container_of(workload("ai-proxy-service"))["ports"]
    }

    assert int(environment["METRICS_PORT"]) == ports["metrics"] != ports["http"]
