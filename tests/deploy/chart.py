"""The chart of deploy/helm, rendered by Helm and checked against the schemas that `make charts` installs."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.deploy.install_chart_tools import KUBERNETES
from tests.repo.sources import ROOT

CHART = ROOT / "deploy" / "helm" / "cinemeter"
TOOLS = Path(sys.prefix) / "charts"
Manifest = dict[str, Any]

_GPU = {
    "pools": "wan",
    "device": "cuda:0",
    "replicas": 4,
    "resources": {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": 1}},
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "shm": "1Gi",
    "home": "50Gi",
}
# Values by name, each with the oldest release that they can be rendered for.
MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": (KUBERNETES[0], {}),
    "everything": (
        KUBERNETES[0],
        {
            "image": {
                "api": {"repository": "registry.example.org/api", "digest": f"sha256:{'0' * 64}"},
                "pullSecrets": [{"name": "registry"}],
            },
            "migrateDatabaseKey": "migrate-database-url",
            "catalogConfigMap": "models",
            "signingKey": {"secret": "signing"},
            "moderation": {"policy": {"secret": "moderation"}, "classifier": {"claim": "classifier"}},
            "serviceAccountName": "films",
            "scheduler": {"podDeletionCost": True},
            "podAnnotations": {"example.org/team": "films"},
            "podLabels": {"example.org/queue": "films"},
            "api": {"nodeSelector": {"disk": "ssd"}, "service": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
            "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls", "annotations": {"a": "off"}},
            "httpRoute": {"enabled": True},
            "pools": {
                "wan-80g": {**_GPU, "weights": {"claim": "cinemeter-models"}},
                "wan-scaled": {
                    **{name: value for name, value in _GPU.items() if name != "replicas"},
                    "pools": "wan,finish",
                    "weights": {"claim": "cinemeter-models"},
                    "scale": {"min": 0, "max": 8, "flex": True, "gpu": "80g", "cooldownSeconds": 0},
                },
                "wan-hurry": {**_GPU, "drainSeconds": 0, "handBackSeconds": 60, "weights": {"hostPath": "/mnt/models"}},
            },
            "metrics": {
                "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
                "rules": {"enabled": True, "labels": {"release": "prometheus"}},
                "dashboards": {"enabled": True},
            },
            "networkPolicy": {
                "apiFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
            },
        },
    ),
    "little": (
        KUBERNETES[0],
        {"api": {"hpa": {"enabled": False}}, "migrate": {"enabled": False}, "networkPolicy": {"enabled": False}},
    ),
    "costs-of-pods": (KUBERNETES[0], {"scheduler": {"podDeletionCost": True}}),
    "weights-in-an-image": (
        KUBERNETES[-1],
        {"pools": {"wan-80g": {**_GPU, "weights": {"image": "registry.example.org/weights:1"}}}},
    ),
}


def missing_tools() -> str | None:
    """Return why the chart cannot be checked here, or None."""
    if not (TOOLS / ".installed").exists():
        return "Helm and the schemas are not installed: `make charts` installs them into .venv/charts"
    return None


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm with `values` on standard input."""
    command = [str(TOOLS / "helm"), *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), check=False, capture_output=True, text=True)


@functools.cache
def rendered(name: str) -> list[Manifest]:
    """Return the manifests of the values of this name in MATRIX, hooks and tests included."""
    release, values = MATRIX[name]
    run = helm("template", "films", str(CHART), "--namespace", "video", "--kube-version", release, values=values)
    assert run.returncode == 0, run.stderr
    return [manifest for manifest in yaml.safe_load_all(run.stdout) if manifest]


@functools.cache
def _definitions(release: str) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """Return the definitions of a release of Kubernetes, and the name of each kind's by apiVersion and kind."""
    definitions = json.loads((TOOLS / "schemas" / f"kubernetes-{release}.json").read_text(encoding="utf-8"))["$defs"]
    names = {}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            version = "/".join(part for part in (kind["group"], kind["version"]) if part)
            names[version, kind["kind"]] = name
    return definitions, names


@functools.cache
def _validator(release: str, version: str, kind: str) -> Any:
    definitions, names = _definitions(release)
    if (version, kind) in names:
        return jsonschema_rs.validator_for({"$ref": f"#/$defs/{names[version, kind]}", "$defs": definitions})
    operators = json.loads((TOOLS / "schemas" / "operators.json").read_text(encoding="utf-8"))
    schema = operators.get(f"{version}/{kind}")
    return schema and jsonschema_rs.validator_for(schema)


def problems(manifest: Manifest, release: str) -> list[str] | None:
    """Return what a release of Kubernetes, or the kind's operator, would refuse; None for a kind without a schema."""
    validator = _validator(release, manifest["apiVersion"], manifest["kind"])
    if validator is None:
        return None
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    return [f"{name} {list(error.instance_path)}: {error.message[:200]}" for error in validator.iter_errors(manifest)]


def pod_specs(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Return the spec of every pod that these manifests make, by the name of its object."""
    specs = {}
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job", "Pod"):
            holder = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
            specs[manifest["metadata"]["name"]] = holder["spec"]
    return specs
