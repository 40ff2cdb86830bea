"""The objects that a kustomization is made of, read without kubectl.

Only what `deploy/kubernetes` uses: resources, components, generators and images. That kubectl
makes the same of it is a test of its own.
"""

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def objects_of(folder: Path) -> list[Object]:
    """Return the objects of a kustomization and of all that it is built on."""
    file = folder / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    found: list[Object] = []
    for name in [*kustomization.get("resources", ()), *kustomization.get("components", ())]:
        path = (folder / name).resolve()
        found += objects_of(path) if path.is_dir() else _documents(path)
    for generator in kustomization.get("configMapGenerator", ()):
        pairs = dict(line.split("=", 1) for line in generator["literals"])
        found.append(_generated("ConfigMap", generator["name"], {"data": pairs}))
    for generator in kustomization.get("secretGenerator", ()):
        lines = [
            line
            for name in generator["envs"]
            for line in (folder / name).read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        pairs = dict(line.split("=", 1) for line in lines)
        found.append(_generated("Secret", generator["name"], {"stringData": pairs}))
    return found


def _documents(path: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def _generated(kind: str, name: str, content: Object) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}


def pod_of(owner: Object) -> Object:
    """Return the template of the pods of a workload."""
    spec = owner["spec"]
    if owner["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Object = spec["template"]
    return template
