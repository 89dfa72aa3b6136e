"""The Helm chart: what it renders is valid, is what the commands and settings accept, and refuses wrong values."""

import re
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.main import get_command

from app.api.health import router
from app.cli.main import app as cli
from app.dispatch.pod_costs import ClusterApi
from app.metrics_server import metrics_app
from app.settings import Settings
from tests.autoscaling.keda import BEHAVIOR, SCALED_OBJECT
from tests.deploy.chart import CHART, MATRIX, Manifest, helm, missing_tools, pod_specs, problems, rendered
from tests.deploy.install_chart_tools import KUBERNETES
from tests.deploy.runbook import RUNBOOK
from tests.repo.documents import CHART_SCHEMA, CHART_SETS, chart_schema
from tests.repo.sources import ROOT

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))
# The Gateway API has no schema in the package index.
NO_SCHEMA = {"HTTPRoute"}
# What the profile `restricted` of Pod Security allows.
VOLUMES = {"name", "configMap", "emptyDir", "persistentVolumeClaim", "secret"}
CASES = [
    (name, release)
    for name, (oldest, _) in MATRIX.items()
    for release in KUBERNETES
    if KUBERNETES.index(release) >= KUBERNETES.index(oldest)
]
# The values by which schedulers tell Kubernetes what ending a worker costs.
WITH_COSTS = {name for name, (_, values) in MATRIX.items() if values.get("scheduler", {}).get("podDeletionCost")}
PODS = [(name, pod) for name in MATRIX for pod in ("api", "scheduler", "worker")]


def of_kind(name: str, kind: str) -> list[Manifest]:
    return [manifest for manifest in rendered(name) if manifest["kind"] == kind]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The variables of a container; one that is read from elsewhere has the name of its source."""
    return {
        each["name"]: each["value"] if "value" in each else next(iter(each["valueFrom"]))
        for each in container.get("env", [])
    }


@pytest.mark.parametrize(("name", "release"), CASES)
def test_kubernetes_and_the_operators_accept_every_field(name: str, release: str) -> None:
    for manifest in rendered(name):
        verdict = problems(manifest, release)
        assert verdict is not None or manifest["kind"] in NO_SCHEMA, manifest["kind"]
        assert not verdict


def test_the_check_finds_a_field_that_does_not_exist() -> None:
    for kind in ("Deployment", "PodMonitor"):
        (manifest, *_) = of_kind("everything", kind)
        wrong = {**manifest, "spec": {**manifest["spec"], "replicaz": 1}}
        assert problems(wrong, KUBERNETES[-1])


def test_the_linter_finds_nothing() -> None:
    run = helm("lint", "--strict", "--quiet", str(CHART))
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", MATRIX)
def test_objects_have_names_of_their_own_and_find_each_other(name: str) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(name)]
    assert len(set(names)) == len(names)
    assert max(len(each) for _, each in names) <= 63
    labels = [manifest["spec"]["template"]["metadata"]["labels"] for manifest in of_kind(name, "Deployment")]
    for manifest in rendered(name):
        selector = manifest["spec"].get("selector") if "spec" in manifest else None
        wanted = (selector or {}).get("matchLabels", selector if manifest["kind"] == "Service" else None)
        if wanted:
            hits = [each for each in labels if wanted.items() <= each.items()]
            assert hits if manifest["kind"] == "PodMonitor" else len(hits) == 1, manifest["metadata"]["name"]
        if manifest["kind"] == "HorizontalPodAutoscaler":
            assert ("Deployment", manifest["spec"]["scaleTargetRef"]["name"]) in names
    (service,) = of_kind(name, "Service")
    for route in (*of_kind(name, "Ingress"), *of_kind(name, "HTTPRoute")):
        assert f"'name': '{service['metadata']['name']}'" in str(route["spec"])


@pytest.mark.parametrize("name", MATRIX)
def test_pods_are_as_restricted_as_can_be(name: str) -> None:
    (user,) = {
        user
        for path in (ROOT / "deploy").glob("*.Dockerfile")
        for user in re.findall(r"^USER (\d+)", path.read_text(), re.M)
    }
    for pod, spec in pod_specs(rendered(name)).items():
        assert spec["automountServiceAccountToken"] is False, "the one container that needs a token mounts it"
        assert spec["enableServiceLinks"] is False, "a Service named cinemeter would set CINEMETER_PORT"
        security = spec["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] == int(user)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        # Weights in an image or on the node's disk are the operator's choice; README.md says what that costs.
        allowed = VOLUMES | ({"image", "hostPath"} if "worker-wan" in pod else set())
        allowed |= {"projected"} if pod == "films-scheduler" and name in WITH_COSTS else set()
        assert all(set(volume) <= allowed for volume in spec["volumes"]), pod
        for container in containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("name", MATRIX)
def test_each_container_runs_a_command_with_options_and_settings_that_exist(name: str) -> None:
    commands = get_command(cli).commands  # type: ignore[attr-defined]
    for pod, spec in pod_specs(rendered(name)).items():
        for container in containers(spec):
            if "command" in container:
                # The test of the release; everything else runs through the image's entry point.
                assert pod.endswith("-test")
                assert container["command"][:2] == ["python", "-c"]
                compile(container["command"][2], "command", "exec")
                continue
            command, *options = container["args"]
            commands[command].make_context(command, options)
            variables = environment(container)
            fields = {each.removeprefix("CINEMETER_").lower(): value for each, value in variables.items()}
            assert set(fields) <= set(Settings.model_fields), pod
            literal = {
                each["name"].removeprefix("CINEMETER_").lower(): each["value"]
                for each in container["env"]
                if "value" in each
            }
            Settings(**literal)
            assert {"database_url", "redis_url", "secret", "storage_url", "public_url"} <= set(fields)
            assert len(variables) == len(container["env"]), "no variable is set twice"


@pytest.mark.parametrize("name", MATRIX)
def test_what_a_container_reads_and_writes_is_mounted(name: str) -> None:
    for pod, spec in pod_specs(rendered(name)).items():
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounts = {each["name"] for container in containers(spec) for each in container.get("volumeMounts", [])}
        assert mounts == volumes, pod
        for container in containers(spec):
            paths = {each["mountPath"]: each.get("readOnly", False) for each in container.get("volumeMounts", [])}
            variables = environment(container)
            if variables:
                assert paths[variables["CINEMETER_HOME"]] is False
                assert paths["/tmp"] is False
            for setting in ("CINEMETER_CATALOG_DIR", "CINEMETER_SIGNING_KEY", "CINEMETER_MODERATION_POLICY"):
                if setting in variables:
                    assert any(f"{variables[setting]}/".startswith(f"{path}/") for path in paths), setting
            if container["name"] == "worker" and "wan" in pod:
                assert paths["/models"] is True
                assert paths["/dev/shm"] is False


def test_those_that_moderate_have_the_policy_and_its_classifier() -> None:
    """Orders are checked by the API, films by workers; the scheduler decides reviews at their deadline."""
    policy, classifier = set(), set()
    for pod, spec in pod_specs(rendered("everything")).items():
        for container in containers(spec):
            paths = {each["mountPath"] for each in container.get("volumeMounts", [])}
            if environment(container).get("CINEMETER_MODERATION_POLICY") == "/etc/cinemeter/moderation/policy.toml":
                policy.add(pod)
            if "/etc/cinemeter/classifier" in paths:
                classifier.add(pod)
        for volume in spec["volumes"]:
            if volume["name"] == "moderation":
                assert volume["secret"] == {"secretName": "moderation", "defaultMode": 0o440}, "it may have a key"
    workers = {f"films-worker-{pool}" for pool in ("finish", "wan-80g", "wan-scaled", "wan-hurry")}
    assert classifier == workers | {"films-api"}
    assert policy == classifier | {"films-scheduler"}
    assert "CINEMETER_MODERATION_POLICY" not in str(rendered("defaults"))


@pytest.mark.parametrize("name", MATRIX)
def test_probes_ask_for_paths_that_are_served(name: str) -> None:
    served = {"http": {route.path for route in router.routes}, "metrics": {"/livez", "/metrics"}}
    for path in served["metrics"]:
        assert _status(path).startswith("200"), path
    assert _status("/other").startswith("404")
    for pod, spec in pod_specs(rendered(name)).items():
        for container in spec["containers"]:
            ports = {port["name"]: str(port["containerPort"]) for port in container.get("ports", [])}
            variables = environment(container)
            if ports:
                assert ports["metrics"] == variables["CINEMETER_METRICS_PORT"]
                assert ports.get("http") == variables.get("CINEMETER_PORT")
                assert {"startupProbe", "livenessProbe"} <= set(container), pod
                assert ("readinessProbe" in container) == ("http" in ports)
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    get = container[probe]["httpGet"]
                    assert get["path"] in served[get["port"]]
    for monitor in of_kind(name, "PodMonitor"):
        assert monitor["spec"]["podMetricsEndpoints"][0]["path"] in served["metrics"]


def _status(path: str) -> str:
    statuses: list[str] = []
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    list(metrics_app(CollectorRegistry())(environ, lambda status, headers: statuses.append(status)))
    return statuses[0]


def test_a_worker_has_its_own_name_and_time_to_hand_its_take_back() -> None:
    graces = {}
    for name in MATRIX:
        for pod, spec in pod_specs(rendered(name)).items():
            if "-worker-" in pod:
                (container,) = spec["containers"]
                variables = {each["name"]: each for each in container["env"]}
                source = variables["CINEMETER_WORKER_NAME"]["valueFrom"]["fieldRef"]["fieldPath"]
                assert source == "metadata.uid"
                graces[pod] = (
                    int(variables["CINEMETER_DRAIN_SECONDS"]["value"]),
                    spec["terminationGracePeriodSeconds"],
                )
    drain = int(Settings.model_fields["drain_seconds"].default)
    assert graces == {
        "films-worker-finish": (drain, 300),
        "films-worker-wan-80g": (drain, 120),
        "films-worker-wan-scaled": (drain, 120),
        "films-worker-wan-hurry": (0, 60),
    }


def test_the_database_is_migrated_before_anything_else_and_pods_wait_for_it() -> None:
    (job,) = of_kind("everything", "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    keys = {each["name"]: each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
    assert keys["CINEMETER_DATABASE_URL"] == "migrate-database-url"
    assert not of_kind("little", "Job")
    for name in MATRIX:
        for pod, spec in pod_specs(rendered(name)).items():
            waits = [container["args"][:2] for container in spec.get("initContainers", [])]
            assert waits == ([] if pod.endswith("-migrate") else [["migrate", "--check"]])


def test_prometheus_has_the_rules_of_the_alerts_file() -> None:
    (rule,) = of_kind("everything", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text(encoding="utf-8"))


def test_grafana_has_every_dashboard() -> None:
    shown = {
        file: content
        for manifest in of_kind("everything", "ConfigMap")
        for file, content in manifest["data"].items()
        if manifest["metadata"]["labels"]["grafana_dashboard"] == "1"
    }
    files = sorted((ROOT / "deploy" / "dashboards").glob("*.json"))
    assert {name: content.strip() for name, content in shown.items()} == {
        f"cinemeter-{path.name}": path.read_text(encoding="utf-8").strip() for path in files
    }
    assert files


def test_no_database_and_no_secret_is_made() -> None:
    for name in MATRIX:
        kinds = {manifest["kind"] for manifest in rendered(name)}
        assert not kinds & {"Secret", "StatefulSet", "ClusterRole", "ClusterRoleBinding"}


@pytest.mark.parametrize("name", MATRIX)
def test_only_a_scheduler_that_keeps_costs_has_a_token_and_one_right(name: str) -> None:
    folder = ClusterApi().folder
    for pod, spec in pod_specs(rendered(name)).items():
        for container in containers(spec):
            mounts = {each["mountPath"]: each["name"] for each in container.get("volumeMounts", [])}
            has_token = name in WITH_COSTS and pod == "films-scheduler" and container["name"] == "scheduler"
            assert (str(folder) in mounts) == has_token, (pod, container["name"])
            assert ("--pod-deletion-cost" in container.get("args", [])) == has_token
            if has_token:
                (volume,) = [each for each in spec["volumes"] if each["name"] == mounts[str(folder)]]
                files = str(volume["projected"]["sources"])
                assert all(f"'path': '{file}'" in files for file in ("token", "ca.crt", "namespace"))
    if name not in WITH_COSTS:
        assert not any(of_kind(name, kind) for kind in ("ServiceAccount", "Role", "RoleBinding"))
        return
    (role,) = of_kind(name, "Role")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    (binding,) = of_kind(name, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert subject["namespace"] == "video"
    assert subject["name"] == pod_specs(rendered(name))["films-scheduler"]["serviceAccountName"]
    made = [each["metadata"]["name"] for each in of_kind(name, "ServiceAccount")]
    own_account = MATRIX[name][1].get("serviceAccountName")
    assert made == ([] if own_account else [subject["name"]])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"env": {"CINEMETER_PUBLIC": "https://films.example.org"}}, "CINEMETER_PUBLIC"),
        ({"pools": {"finish": {"weights": {"claim": "a", "hostPath": "/b"}}}}, "maxProperties"),
        ({"pools": {"finish": {"weights": {"image": "weights:1"}}}}, "needs Kubernetes 1.36"),
        (
            {"moderation": {"classifier": {"image": "classifier:1"}}},
            "moderation.classifier.image needs Kubernetes 1.36",
        ),
        ({"moderation": {"classifier": {}}}, "minProperties"),
        ({"env": {"CINEMETER_MODERATION_POLICY": "/policy.toml"}}, "CINEMETER_MODERATION_POLICY"),
        ({"pools": {"finish": {"handBackSeconds": 5}}}, "minimum"),
        ({"pools": {"wan_80g": {}}}, "wan_80g"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], reason: str) -> None:
    run = helm("template", "films", str(CHART), "--kube-version", "1.34", values=values)
    assert run.returncode != 0
    assert reason in run.stderr


def test_the_schema_knows_the_settings_that_exist() -> None:
    text = CHART_SCHEMA.read_text(encoding="utf-8")
    assert text == chart_schema(text)
    assert set(Settings.model_fields) >= CHART_SETS


def test_the_values_of_the_page_render() -> None:
    """README.md tells what to write; a value that is none would stop whoever follows it."""
    blocks = re.findall(r"^( *)```yaml\n(.*?)^ *```", (CHART / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    values: dict[str, Any] = {}
    for _, block in blocks:
        part = yaml.safe_load(block)
        values = {**values, **part, "pools": {**values.get("pools", {}), **renamed(part.get("pools", {}))}}
    assert {"wan-80g-replicas", "wan-80g-scale"} == set(values["pools"])
    run = helm("template", "films", str(CHART), "--kube-version", "1.34", values=values)
    assert run.returncode == 0, run.stderr
    for manifest in yaml.safe_load_all(run.stdout):
        assert not problems(manifest, "1.34")


def test_the_runbook_names_objects_that_the_chart_makes() -> None:
    names = {manifest["metadata"]["name"] for manifest in of_kind("defaults", "Deployment")}
    acts = re.findall(r"kubectl --namespace video [a-z ]+? deploy/([a-z-]+)(?: -- cinemeter ([a-z]+))?", RUNBOOK)
    assert len(acts) >= 3
    for deployment, command in acts:
        assert deployment in names
        assert not command or command in get_command(cli).commands  # type: ignore[attr-defined]
    for label, value in re.findall(r"--selector ([a-z./]+)=([a-z]+)", RUNBOOK):
        assert any(each["metadata"]["labels"].get(label) == value for each in of_kind("defaults", "Deployment")), label


def renamed(pools: dict[str, Any]) -> dict[str, Any]:
    """The page shows one pool twice: with a number of workers, and scaled."""
    return {f"{name}-{'scale' if 'scale' in values else 'replicas'}": values for name, values in pools.items()}


def test_keda_asks_for_the_workers_of_every_pool_that_an_entry_serves() -> None:
    (scaled,) = of_kind("everything", "ScaledObject")
    assert scaled["spec"]["minReplicaCount"] == scaled["spec"]["cooldownPeriod"] == 0
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == BEHAVIOR, "what is simulated"
    assert scaled["spec"]["pollingInterval"] == SCALED_OBJECT["pollingInterval"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["query"] == "SELECT workers_wanted('wan', 2, '80g') + workers_wanted('finish', 2, '80g')"
    (deployment,) = [
        each for each in of_kind("everything", "Deployment") if each["metadata"]["name"].endswith("scaled")
    ]
    assert deployment["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    assert "replicas" not in deployment["spec"], "Helm would set back what KEDA has set"
    (rights,) = of_kind("everything", "TriggerAuthentication")
    assert rights["metadata"]["name"] == trigger["authenticationRef"]["name"]
    assert not of_kind("defaults", "TriggerAuthentication")
