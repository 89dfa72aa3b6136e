"""The files of deploy/ hold together: with one another, with the settings, and with their formats."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.main import app as cli
from app.cli.up import roles
from app.settings import Settings
from app.wakeups import celery_settings
from tests.images.building import STAND_INS, foreign_images, role_of
from tests.repo.documents import ENVIRONMENT, environment_example
from tests.repo.sources import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
# A row of a table: names in the first cell, the value in the second.
ROW = re.compile(r"^\| (`[a-z].*?) \| (.*?) \|", flags=re.MULTILINE)
ROLES = {"api", "scheduler", "courier", "finisher", "worker-gpu0", "worker-gpu1"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, comments left out and continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], " ".join(line.split()[1:])) for line in text.splitlines() if line.strip()]


def test_the_example_of_the_environment_is_made_from_the_settings() -> None:
    assert ENVIRONMENT.read_text(encoding="utf-8") == environment_example()


def test_every_variable_of_the_example_is_one_that_is_read(compose: dict[str, Any]) -> None:
    known = {f"CINEMETER_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", environment_example(), flags=re.MULTILINE))
    for_compose = set(re.findall(r"\$\{([A-Z0-9_]+)", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert named == known | for_compose


def test_compose_follows_its_specification() -> None:
    tool = Path(sysconfig.get_path("scripts")) / "check-jsonschema"
    checked = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_a_linter_finds_nothing_in_the_dockerfiles(dockerfile: Path) -> None:
    tool = Path(sysconfig.get_path("scripts")) / "hadolint"
    checked = subprocess.run([tool, "--no-color", dockerfile], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_number_of_api_containers_outlives_the_next_up(compose: dict[str, Any]) -> None:
    assert compose["services"]["api"]["deploy"]["replicas"] == "${API_CONTAINERS:-1}"
    text = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    scaled = re.findall(r"^.*\bdc up .*--scale \w+=.*$", text, flags=re.MULTILINE)
    assert len(scaled) == 1
    assert "--no-recreate" in scaled[0], "only new ones beside the old ones"


def test_each_image_of_a_registry_has_a_stand_in() -> None:
    assert {role_of(image) for image in foreign_images()} == set(STAND_INS)


def test_compose_runs_every_role_and_names_only_what_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == ROLES | {"postgres", "redis", "storage", "migrate", "proxy", "prometheus"}
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands}
    known = {f"CINEMETER_{name.upper()}" for name in Settings.model_fields}
    for name in ROLES | {"migrate"}:
        service = services[name]
        assert service["command"][0] in commands
        assert {key for key in service["environment"] if key.startswith("CINEMETER_")} <= known, name
        assert service["cap_drop"] == ["ALL"]
    for name, service in services.items():
        assert ":" in service["image"] or service["image"].startswith("cinemeter-"), f"{name} is pinned to a version"
        assert not service["image"].endswith(":latest")
        for other in service.get("depends_on", {}):
            assert other in services
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{[^}]*\}", "./models", volume).split(":")[0]
            assert source.startswith(".") or source in compose["volumes"], volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "what is published goes through a proxy"
    assert not services["migrate"].get("ports")


def test_every_role_can_read_a_policy_of_moderation_and_starts_without_one(compose: dict[str, Any]) -> None:
    example = environment_example()
    assert "\n#CINEMETER_MODERATION_POLICY=\n" in example, "without it the folder may be empty"
    mount = "${MODERATION_FOLDER:-./moderation}:/etc/cinemeter/moderation:ro"
    for name in ROLES | {"migrate"}:
        service = compose["services"][name]
        # Docker makes a folder that is missing for a volume of this short form.
        assert mount in service["volumes"], name
        assert "CINEMETER_MODERATION_POLICY" not in service["environment"], "deploy/.env names it"
        assert service["build"]["args"] == {"EXTRAS": "${IMAGE_EXTRAS:-}"}
    assert "/deploy/moderation/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split(), "it may hold a key"


def test_every_process_says_whether_it_is_well_and_ends_in_its_own_time(compose: dict[str, Any]) -> None:
    for name in ROLES:
        service = compose["services"][name]
        port = "8000/readyz" if name == "api" else f"{service['environment']['CINEMETER_METRICS_PORT']}/livez"
        assert f"http://localhost:{port}" in service["healthcheck"]["test"][-1]
    assert compose["services"]["migrate"]["healthcheck"] == {"disable": True}, "it ends"
    given = {
        compose["services"][name]["stop_grace_period"]
        for name in ROLES
        if "worker" in compose["services"][name]["image"]
    }
    # After drain_seconds a take is handed back; the rest is for a last step, a checkpoint's upload, or a finish.
    assert given == {"2m"}
    drain = Settings.model_fields["drain_seconds"].default
    assert 4 * drain < 120
    text = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    assert "two minutes for all this (`stop_grace_period`)" in text
    assert f"`CINEMETER_DRAIN_SECONDS` ({drain:g})" in text
    # Under `up` the tree waits for a worker as well.
    [worker] = [role for role in roles() if role.name == "worker"]
    assert drain < worker.stop_seconds


def test_each_setting_of_celery_has_its_reason() -> None:
    page = (DEPLOY / "decisions" / "0003-celery-settings.md").read_text(encoding="utf-8")
    told = {name: value for names, value in ROW.findall(page) for name in re.findall(r"`([a-z_]+)`", names)}
    settings = celery_settings()
    settings |= settings.pop("broker_transport_options")
    assert set(told) == set(settings)
    for name, value in settings.items():
        if isinstance(value, bool | int | str | None):
            spelled = "none" if value is None else str(value).lower()
            assert spelled in told[name].split(", "), name


def test_each_gpu_has_one_worker(compose: dict[str, Any]) -> None:
    workers = {name: service for name, service in compose["services"].items() if name.startswith("worker-gpu")}
    taken = []
    for name, service in workers.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        taken += device["device_ids"]
        # The container sees one GPU, and that one is its first.
        assert service["environment"]["CINEMETER_DEVICE"] == "cuda:0"
        assert name.removeprefix("worker-gpu") in device["device_ids"]
    assert len(taken) == len(set(taken)) == len(workers)


def test_some_worker_serves_every_shipped_pool(compose: dict[str, Any]) -> None:
    served = {
        pool
        for service in compose["services"].values()
        for pool in str(service.get("environment", {}).get("CINEMETER_POOLS", "")).split(",")
    }
    wanted = set(
        re.findall(r'^pool = "(\w+)"', "".join(p.read_text() for p in (ROOT / "app/catalog").glob("*.toml")), re.M)
    )
    assert wanted | {"finish"} <= served


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_pinned_small_and_not_root(path: Path) -> None:
    found = instructions(path)
    froms = [rest for word, rest in found if word == "FROM"]
    assert all(re.match(r"python:3\.1[1-9]-slim-\w+", image) for image in froms)
    assert [word for word, _ in found].index("FROM") == 0
    last = found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]
    assert ("USER", "10001") in last, "a number, so that a cluster can tell that it is not root"
    assert not any(word == "ADD" for word, _ in found)
    for word, rest in last:
        if word in ("ENTRYPOINT", "CMD"):
            assert rest.startswith("["), "signals reach the process itself"
        if word == "COPY":
            assert "--from=build" in rest, "compilers and caches stay in the first stage"
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("-c constraints.txt" in rest or "--no-deps ." in rest or "TORCH_INDEX" in rest for rest in installs)
    assert "PIP_NO_CACHE_DIR=1" in " ".join(rest for word, rest in found if word == "ENV")


def test_only_the_worker_has_torch() -> None:
    api, worker = ((DEPLOY / f"{name}.Dockerfile").read_text(encoding="utf-8") for name in ("api", "worker"))
    assert "'worker'" not in api
    assert "'worker'" in worker


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_images_copy_is_in_the_build_context(path: Path) -> None:
    allowed = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    for word, rest in instructions(path):
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in allowed


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_line_that_lists_requirements_works(path: Path, tmp_path: Path) -> None:
    """It is Python in a shell in a Dockerfile: the test runs what the image would."""
    (line,) = [rest for word, rest in instructions(path) if word == "RUN" and "requirements.txt" in rest]
    command = line.split("&&")[0].replace("/opt/cinemeter/bin/python", sys.executable)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
    listed = (tmp_path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert any(each.startswith("fastapi") for each in listed)
    assert any(each.startswith("torch>") for each in listed) == ("worker" in path.name)


def test_prometheus_reads_every_role(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert set(names["names"]) == ROLES
    ports = {str(compose["services"][role]["environment"]["CINEMETER_METRICS_PORT"]) for role in ROLES}
    assert ports == {str(names["port"])}


def test_the_runbook_names_commands_that_exist() -> None:
    text = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands}
    groups = {group.name for group in cli.registered_groups}
    for word in re.findall(
        r"(?:`cinemeter|^cinemeter|run --rm (?:migrate|finisher|worker-gpu0)) ([a-z]+)\b", text, re.MULTILINE
    ):
        assert word in commands | groups, word
    services = set(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"])
    acts = re.findall(r"\bdc (stop|logs|ps|exec|up|restart)((?: --?[a-z]+| [a-z][a-z0-9-]+| -T)+)", text)
    assert len(acts) > 15
    for act, words in acts:
        named = [word for word in words.split() if not word.startswith("-")]
        # `exec` names one service and then a command of its own.
        named = named[:1] if act == "exec" else named
        assert set(named) <= services, (act, words)
