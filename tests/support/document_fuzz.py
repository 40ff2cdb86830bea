"""Requests made from an OpenAPI document (schemathesis): how many, and what answers must keep to.

`SCHEMA_EXAMPLES=1000` asks for so many requests of each operation instead of a few.
"""

import copy
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import APIOperation

SCHEMA_EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "0"))
IS_LONG = SCHEMA_EXAMPLES > 0
_USUAL_TIMEOUT_SECONDS = 180
_SECONDS_PER_EXAMPLE = 2
# A thousand requests of one operation take longer than a test usually may.
PATIENCE = pytest.mark.timeout(_USUAL_TIMEOUT_SECONDS + _SECONDS_PER_EXAMPLE * SCHEMA_EXAMPLES)
# By itself schemathesis stops reading a stream after twenty events.
_STREAM_EVENTS_MAX = 100_000
# What says no to a wrong request: what is wrong may be that it is too long.
_REFUSALS = [400, 401, 403, 404, 409, 413, 414, 422, 431]

Document = dict[str, Any]


def examples(usual: int, modes: Sequence[GenerationMode]) -> int:
    """Return how many examples a test of one mode takes: `usual`, or its part of all of them."""
    return max(usual, -(-SCHEMA_EXAMPLES // len(modes)))


def fuzzing(count: int) -> settings:
    """Return the settings of a run that is the same each time and keeps nothing."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def operations_of(document: Document) -> list[tuple[str, str]]:
    """Return path and method of every operation."""
    return [(path, method) for path, item in document["paths"].items() for method in item]


def modes_of(document: Document, path: str, method: str) -> list[GenerationMode]:
    """Return how an operation can be asked: what checks nothing can't be asked wrongly."""
    operation = document["paths"][path][method]
    # Any text is right for what stands in a path.
    checked = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    takes_something = checked or "requestBody" in operation
    return list(GenerationMode) if takes_something else [GenerationMode.POSITIVE]


def closed(document: Document) -> Document:
    """Return the document with no room for members of answers that it does not name.

    Nor does it ask for keys: tests give them, or requests would be wrong for lack of one only.
    """
    copied = copy.deepcopy(document)
    copied.pop("security", None)
    for schema in copied["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return copied


def report(path: str, method: str, mode: GenerationMode, statuses: Counter[int]) -> None:
    """Tell what was answered, for who runs pytest with `-rP`."""
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    sys.stdout.write(f"{method.upper()} {path} ({mode.value}): {told}\n")


def load(document: Document, path: str, method: str) -> APIOperation[Any, Any, Any, Any]:
    """Return an operation that requests can be made of."""
    config = SchemathesisConfig.from_dict(
        {
            "max-stream-events": _STREAM_EVENTS_MAX,
            "checks": {"negative_data_rejection": {"expected-statuses": _REFUSALS}},
        }
    )
    operation: APIOperation[Any, Any, Any, Any] = schemathesis.openapi.from_dict(
        document, config=config
    )[path][method]
    return operation
