"""The installation of the runbook's first start: what its commands say, a paid film, and what its processes may do."""

import json
import time
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.images.engine import until
from tests.images.first_start import runbook_commands
from tests.images.installation import PUBLIC_URL, URL, WORKERS, Installation, measure

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
# Those of compose.yaml that run without a GPU.
ROLES = ("api", "scheduler", "courier", "finisher")
TARGETS_SECONDS = 90


def test_the_runbook_has_the_steps_that_were_followed(installation: Installation) -> None:
    assert runbook_commands() == [
        "dc up --build --detach",
        "dc run --rm migrate init --email you@example.org",
        "dc run --rm finisher doctor",
    ]
    first = installation.outputs[runbook_commands()[1]]
    assert f"Choose your password at {PUBLIC_URL}/welcome/" in first
    answer = httpx.get(f"{URL}/readyz", trust_env=False)
    assert answer.status_code == 200
    assert "missing" not in installation.outputs[runbook_commands()[2]]


def test_a_film_is_ordered_paid_and_downloaded(installation: Installation, report: list[str]) -> None:
    began = time.monotonic()
    with installation.client() as client:
        before = client.get("/v1/wallet").raise_for_status().json()
        order = {"model": "demo", "prompt": "a red circle moves right on a blue background", "seconds": 1}
        quote = client.post("/v1/videos/quotes", json={**order, "resolution": "480P"}).raise_for_status().json()
        video = installation.order(**order, quote_id=quote["id"])
        facts = installation.end_of(video)
        assert facts["status"] == "completed", facts
        report.append(f"a film of the demo model (1 s, 480P): {measure(began)}")
        receipt = client.get(f"/v1/videos/{video}/receipt").raise_for_status().json()
        wallet = client.get("/v1/wallet").raise_for_status().json()
        # The API sends its customers on to the storage's own address.
        film = client.get(f"/v1/videos/{video}/content", follow_redirects=True).raise_for_status()
    assert receipt["total"] == quote["total"]
    assert Decimal(wallet["available"]) == Decimal(before["available"]) - Decimal(receipt["total"])
    assert str(film.url).startswith("http://localhost:8333/")
    assert film.content[4:8] == b"ftyp"
    assert "Everything agrees." in installation.dc("run", "--rm", "migrate", "audit")
    assert video in installation.dc("run", "--rm", "migrate", "replay", video)


def test_each_role_is_process_1_on_a_root_that_it_cannot_write(installation: Installation) -> None:
    for role in {*ROLES, *WORKERS}:
        for container in installation.containers(role):
            facts = installation.engine.inspect(container)
            assert facts["HostConfig"]["ReadonlyRootfs"], role
            script = (
                "cat /proc/1/cmdline | tr '\\0' ' '; cat /proc/1/status; touch /opt/cinemeter/written || echo refused"
            )
            first, *lines = installation.engine.docker("exec", container, "sh", "-c", script).splitlines()
            assert "cinemeter" in first or "app." in first or "workers." in first, first
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            assert status["Uid"].split() == ["10001"] * 4, role
            assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}, role
            assert status["NoNewPrivs"] == "1", role
            assert lines[-1] == "refused", role


def test_prometheus_reads_every_role_and_knows_its_rules(installation: Installation, report: list[str]) -> None:
    installation.dc("--profile", "metrics", "up", "--no-build", "--detach", "--no-deps", "prometheus")

    wanted = sum(len(installation.containers(role)) for role in ROLES)

    def scraped() -> int:
        answer = httpx.get("http://localhost:9090/api/v1/targets", trust_env=False)
        targets: list[dict[str, Any]] = json.loads(answer.text)["data"]["activeTargets"]
        return sum(each["health"] == "up" for each in targets)

    def all_of_them() -> bool:
        try:
            return scraped() == wanted
        except httpx.TransportError:
            return False

    until(all_of_them, TARGETS_SECONDS, "targets of Prometheus", pause=1)
    groups = httpx.get("http://localhost:9090/api/v1/rules", trust_env=False).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert all(rule["health"] != "err" for rule in rules)
    report.append(f"Prometheus scrapes {wanted} targets and knows {len(rules)} rules")
    installation.dc("--profile", "metrics", "rm", "--stop", "--force", "prometheus")
