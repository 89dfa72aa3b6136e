"""What becomes of a film whose worker is stopped or cut off, and how long each role takes to end."""

import time

import pytest

from app.settings import Settings
from tests.images.engine import until
from tests.images.installation import NETWORK, Installation, measure

pytestmark = [pytest.mark.images, pytest.mark.timeout(600)]
LEASE_SECONDS = Settings.model_fields["lease_seconds"].default
# A lease runs out, another worker makes the segment, and the film is finished.
RECOVERY_SECONDS = LEASE_SECONDS + 15


def test_a_worker_that_is_stopped_hands_its_take_back(installation: Installation, report: list[str]) -> None:
    video = installation.order(model="slower", seconds=5)
    service, container = installation.take_at_work(video)
    began = time.monotonic()
    installation.dc("stop", service)
    report.append(f"a worker stopped in mid-take has ended: {measure(began)}")
    assert installation.engine.inspect(container)["State"]["ExitCode"] == 0
    assert installation.end_of(video)["status"] == "completed"
    report.append(f"… and the film is complete: {measure(began)}")
    assert installation.takes(video) == ["released", "succeeded"]
    assert installation.failed_tries(video) == (0, 0)
    installation.dc("up", "--no-build", "--detach", "--no-deps", "--wait", service)


def test_a_film_is_complete_though_its_worker_is_cut_off(installation: Installation, report: list[str]) -> None:
    video = installation.order(model="slow")
    service, container = installation.take_at_work(video)
    began = time.monotonic()
    installation.engine.docker("network", "disconnect", NETWORK, container)
    facts = installation.end_of(video)
    seconds = time.monotonic() - began
    report.append(f"a worker cut off in mid-take; the film is complete {seconds:.1f} s later (lease {LEASE_SECONDS} s)")
    assert facts["status"] == "completed"
    assert seconds < RECOVERY_SECONDS
    assert installation.takes(video) == ["lost", "succeeded"]
    began = time.monotonic()
    installation.engine.docker("network", "connect", "--alias", service, NETWORK, container)
    query = f"SELECT 1 FROM workers WHERE host = '{container[:12]}' AND state = 'idle'"
    until(lambda: installation.ask(query), LEASE_SECONDS, "the worker back at work")
    report.append(f"… back on the network the same worker is idle again: {measure(began)}")


@pytest.mark.parametrize("service", ["courier", "scheduler", "second-worker", "api"])
def test_a_role_that_is_stopped_ends_with_code_0(service: str, installation: Installation, report: list[str]) -> None:
    containers = installation.containers(service)
    began = time.monotonic()
    installation.dc("stop", service)
    report.append(f"{service} has ended: {measure(began)}")
    assert [installation.engine.inspect(each)["State"]["ExitCode"] for each in containers] == [0] * len(containers)
    installation.dc("up", "--no-build", "--detach", "--no-deps", "--no-recreate", "--wait", service)
