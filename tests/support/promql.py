"""Which metrics a PromQL expression reads, and which a service exposes."""

import re

# What stands in brackets after these names labels, not metrics.
_GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)"
_STRING = r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'"
_SELECTOR = r"\{[^{}]*\}"
_RANGE = r"\[[^\]]*\]"
_NUMBER = r"\b\d[\w.]*(?:[eE][+-]?\d+)?"
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "group_left"})


def metrics_read(expression: str) -> set[str]:
    """Return the names of the series that an expression selects.

    Functions are names with a bracket after them; grouping, strings, ranges and numbers are
    left out. Dashboards' variables (`$instance`) stand in strings and ranges only.
    """
    for part in (_STRING, _SELECTOR, _RANGE):
        expression = re.sub(part, " ", expression)
    expression = re.sub(_GROUPING, " ", expression)
    expression = re.sub(_NUMBER, " ", expression)
    names = re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", expression)
    return {name for name in names if name not in _WORDS}


def metrics_exposed(exposition: str) -> set[str]:
    """Return the names of all series that a Prometheus text can have.

    A family that has no series yet is known by its `# TYPE` line.
    """
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)", exposition, re.MULTILINE):
        names.add(name)
        if kind == "histogram":
            names.update(f"{name}{part}" for part in ("_bucket", "_sum", "_count"))
    return names
