"""OpenTelemetry's own settings, as its specification names them, from the environment and `.env`.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from dotenv import dotenv_values

_PREFIX = "OTEL_"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def take_over(service: str, endpoint: str, file: Path = Path(".env")) -> bool:
    """Put OpenTelemetry's settings where its SDK reads them; tell whether spans are wanted.

    Args:
        service: what the service is called if nothing else is said.
        endpoint: where spans are sent; empty for nowhere.
        file: where settings may be besides the environment, which wins.
    """
    environment = os.environ
    if not (endpoint or environment.get(_TRACES_ENDPOINT)):
        return False
    written = dotenv_values(file) if file.is_file() else {}
    for name, value in written.items():
        if name.startswith(_PREFIX) and value:
            environment.setdefault(name, value)
    if endpoint:
        environment[_ENDPOINT] = endpoint
    if not _is_wanted(environment):
        return False
    _name(service, environment)
    return True


def _is_wanted(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not disabled and environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "none"


def _name(service: str, environment: MutableMapping[str, str]) -> None:
    if "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        environment.setdefault("OTEL_SERVICE_NAME", service)
