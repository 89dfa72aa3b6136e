"""Each pod of the chart's default values is run as processes: it starts, answers its probes, and ends at SIGTERM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.embedded import Servers
from tests.contracts.storage_servers import rclone
from tests.databases import Database
from tests.deploy.chart import CHART, helm, missing_tools, pod_specs
from tests.deploy.pod_process import PodProcess, why_not_caged
from tests.workers.worker_processes import wait_until

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools())),
]
Specs = dict[str, dict[str, Any]]
PODS = ("films-scheduler", "films-courier", "films-worker-finish", "films-api")
CAGE = why_not_caged()


@pytest.fixture(scope="module")
def secret(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The values of the Secret that an operator makes, with an empty database, and the storage's address beside it."""
    with Database(servers.database_url) as database, rclone(tmp_path_factory.mktemp("s3") / "store") as store:
        yield {
            "database-url": database.url,
            "redis-url": servers.redis_url,
            "secret": "a secret of this test",
            "s3-access-key": store.access_key,
            "s3-secret-key": store.secret_key,
            "storage": f"s3://films/?endpoint={store.endpoint}",
        }


@pytest.fixture(scope="module")
def specs(secret: dict[str, str]) -> Specs:
    env = {"CINEMETER_PUBLIC_URL": "https://films.example.org", "CINEMETER_STORAGE_URL": secret["storage"]}
    run = helm("template", "films", str(CHART), "--namespace", "video", values={"env": env})
    assert run.returncode == 0, run.stderr
    return pod_specs([manifest for manifest in yaml.safe_load_all(run.stdout) if manifest])


@pytest.fixture(scope="module")
def migrated(specs: Specs, secret: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The database after the chart's hook."""
    spec = specs["films-migrate"]
    (container,) = spec["containers"]
    pod = PodProcess(spec, secret, tmp_path_factory.mktemp("migrate"), CAGE is None)
    done = pod.run(container)
    assert done.returncode == 0, done.stderr


def test_every_pod_of_the_chart_is_replayed(specs: Specs) -> None:
    assert set(specs) == {*PODS, "films-migrate", "films-test"}


@pytest.mark.skipif(CAGE is not None, reason=str(CAGE))
def test_a_container_writes_to_its_volumes_alone_and_has_no_rights(
    specs: Specs, secret: dict[str, str], tmp_path: Path
) -> None:
    spec = specs["films-api"]
    (container,) = spec["containers"]
    pod = PodProcess(spec, secret, tmp_path, is_caged=True)
    script = """
    for path in / /etc /usr/bin /var/lib; do if touch "$path/file" 2> /dev/null; then echo "wrote to $path"; fi; done
    for path in /tmp "$CINEMETER_HOME"; do touch "$path/file" || echo "could not write to $path"; done
    if kill -0 1 2> /dev/null; then echo "may signal others"; fi
    grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -s '\\t ' ' '
    """
    done = pod.run(container, "sh", "-c", script)
    none = "0" * 16
    assert done.stdout.splitlines() == [
        "Uid: 10001 10001 10001 10001",
        "Gid: 10001 10001 10001 10001",
        "Groups: 10001 ",
        f"CapEff: {none}",
        f"CapBnd: {none}",
        "NoNewPrivs: 1",
    ], done.stderr


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("name", PODS)
def test_a_pod_starts_answers_its_probes_and_ends_at_the_signal_to_stop(
    name: str, specs: Specs, secret: dict[str, str], tmp_path: Path
) -> None:
    spec = specs[name]
    (container,) = spec["containers"]
    pod = PodProcess(spec, secret, tmp_path, CAGE is None)
    for first in spec["initContainers"]:
        done = pod.run(first)
        assert done.returncode == 0, done.stderr
    with pod.running(container) as process:
        startup = container["startupProbe"]
        patience = startup["periodSeconds"] * startup["failureThreshold"]
        wait_until(
            lambda: pod.answers(startup, container) or not process.is_running() or process.status() == "zombie",
            "the container starts",
            patience,
        )
        text = (tmp_path / f"{container['name']}.log").read_text(encoding="utf-8")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert probe not in container or pod.answers(container[probe], container), (probe, text)
        if name == "films-api":
            ask(specs["films-test"], pod, secret, tmp_path / "test")
        assert pod.stop(process) == 0, (tmp_path / f"{container['name']}.log").read_text(encoding="utf-8")


def ask(spec: dict[str, Any], api: PodProcess, secret: dict[str, str], folder: Path) -> None:
    """Run the pod of `helm test` against the running API, which has its Service's name there and a port here."""
    (container,) = spec["containers"]
    assert "http://films-api:80/" in container["command"][2]
    command = [part.replace("films-api:80", f"127.0.0.1:{api.port(8000)}") for part in container["command"]]
    done = PodProcess(spec, secret, folder, api.is_caged).run({**container, "command": command})
    assert done.returncode == 0, done.stderr
    assert '"status":"ok"' in done.stdout
