"""Alerts and dashboards read metrics that exist, and each alert fires and is explained."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ai_proxy_service.core.metrics import ProxyMetrics
from credits_service.core.metrics import LedgerMetrics
from service_kit.loop_lag import LoopLag
from service_kit.metrics import MetricsRegistry
from support.components import skip_or_fail
from support.promql import metrics_exposed, metrics_read
from support.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GUIDE = (ROOT / "DEPLOYMENT_GUIDE.md").read_text(encoding="utf-8")
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
# Prometheus's own, and node_exporter's.
FOREIGN = {"up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
SERVICES = ("ai-proxy-service", "credits-service")


def alerts() -> list[dict[str, Any]]:
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    return [
        panel
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
        if panel["type"] != "row"
    ]


def promtool(*arguments: str, given: str | None = None) -> str:
    program = shutil.which("promtool")
    if program is None:
        skip_or_fail("promtool (Debian's package prometheus) is not installed")
    done = subprocess.run(
        [program, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def exposition(stack: Stack, service: str, accept: str = "text/plain") -> str:
    url = {"ai-proxy-service": stack.proxy, "credits-service": stack.ledger}[service].url
    answer = httpx.get(f"{url}/metrics", headers={"accept": accept}, timeout=30)
    return answer.raise_for_status().text


# --- what is exposed --------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_own_linter_has_nothing_to_say_about_the_metrics(
    service: str, stack: Stack
) -> None:
    assert promtool("check", "metrics", given=exposition(stack, service)) == ""


# --- alerts -----------------------------------------------------------------------------------


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    said = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    said += promtool("check", "rules", *map(str, RULES))

    assert f"{len(RULES)} rule files found" in said


def test_each_alert_fires_where_its_condition_is_caused_and_nowhere_else() -> None:
    promtool("test", "rules", *map(str, RULE_TESTS))


def test_no_alert_is_without_a_test_that_fires_it() -> None:
    fired = {
        name
        for file in RULE_TESTS
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
        for expectation in case["promql_expr_test"]
        for sample in expectation["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }

    assert {alert["alert"] for alert in alerts()} == fired


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_waits_has_a_severity_and_leads_to_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["for"]
    assert alert["labels"]["severity"] in {"warning", "critical"}
    document, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert document == "DEPLOYMENT_GUIDE.md"
    assert anchor == alert["alert"].lower()
    assert len(re.findall(rf"^#### {alert['alert']}$", GUIDE, re.MULTILINE)) == 1


def test_the_guide_explains_no_alert_that_does_not_exist() -> None:
    section = GUIDE.partition("\n### Alerts\n")[2].partition("\n### ")[0].partition("\n## ")[0]

    assert set(re.findall(r"^#### (\w+)$", section, re.MULTILINE)) == {
        alert["alert"] for alert in alerts()
    }


def test_the_alerts_read_metrics_that_exist(stack: Stack) -> None:
    known = FOREIGN | {name for service in SERVICES for name in metrics_exposed_by(stack, service)}
    known |= metrics_of_the_scripts()

    assert {
        alert["alert"]: metrics_read(alert["expr"]) - known
        for alert in alerts()
        if metrics_read(alert["expr"]) - known
    } == {}


def declared_labels() -> dict[str, set[str]]:
    """Return the labels of the services' metrics, by the names that their samples have."""
    ledger = MetricsRegistry()
    LedgerMetrics(ledger.registry)
    LoopLag(ledger.registry)
    found: dict[str, set[str]] = {}
    for registry in (ProxyMetrics().registry, ledger.registry):
        for metric, names in registry._collector_to_names.items():
            for name in names:
                found[name] = set(getattr(metric, "_labelnames", ()))
    return found


def test_the_alerts_tests_and_dashboards_name_labels_that_exist() -> None:
    """A series that a test makes up must look as the service's own does."""
    declared = declared_labels()
    texts = [file.read_text(encoding="utf-8") for file in (*RULES, *RULE_TESTS)]
    texts += [t["expr"] for d in DASHBOARDS for panel in panels(d) for t in panel["targets"]]
    wrong = {}
    seen = 0
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", "\n".join(texts)):
        if name in declared:
            seen += 1
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector))
            extra = labels - declared[name] - {"job", "instance", "le"}
            if extra:
                wrong[name] = extra

    assert seen > 150
    assert wrong == {}


def metrics_exposed_by(stack: Stack, service: str) -> set[str]:
    return metrics_exposed(exposition(stack, service))


def metrics_of_the_scripts() -> set[str]:
    """Return what the backup scripts write for node_exporter's textfile collector."""
    scripts = sorted((ROOT / "deploy" / "backup").glob("*.sh"))
    text = "\n".join(script.read_text(encoding="utf-8") for script in scripts)
    return set(re.findall(r"\b(ledger_(?:backup|verify)_\w+) ", text))


def test_the_reader_of_expressions_finds_metrics_and_nothing_else() -> None:
    expression = (
        'histogram_quantile(0.99, sum by (le, job) (rate(a_bucket{job="x",m=~"b.*"}[5m]))) > 1e9 '
        "and on (c) group_left d_total offset 1h unless time() - e > 26 * 3600 or absent(f == 1)"
    )

    assert metrics_read(expression) == {"a_bucket", "d_total", "e", "f"}


# --- dashboards -------------------------------------------------------------------------------


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_s_queries_read_metrics_that_exist(dashboard: Path, stack: Stack) -> None:
    known = {"up"} | {name for service in SERVICES for name in metrics_exposed_by(stack, service)}
    read = {
        panel["title"]: metrics_read(target["expr"])
        for panel in panels(dashboard)
        for target in panel["targets"]
    }

    assert len(read) >= 8
    assert {title: names - known for title, names in read.items() if names - known} == {}
    assert all(read.values())
