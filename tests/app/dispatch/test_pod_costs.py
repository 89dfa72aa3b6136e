"""The cost of ending a worker's pod follows what the worker does; nothing waits for Kubernetes."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.pod_costs import PodCosts, run_pod_costs
from app.dispatch.scheduler import run_scheduler
from app.dispatch.worker_registry import deregister_worker, heartbeat, register_worker, set_draining
from app.settings import child_environment
from tests.app.dispatch.cluster_api import Cluster, cluster
from tests.workers.worker_processes import wait_until

UIDS = {name: f"{number:08x}-0000-4000-8000-000000000000" for number, name in enumerate(("busy", "idle", "drained"))}


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as running:
        for name, uid in UIDS.items():
            running.add(name, uid)
        yield running


def worker_of(pod: str, process: int = 8) -> str:
    return f"{UIDS.get(pod, pod)}-7-{process}"


def register(session: Session, pod: str, process: int = 8) -> None:
    register_worker(session, worker_of(pod, process), pools=["wan"], host=pod, pid=process, device="cpu", facts={})


def set_busy(session: Session, worker_id: str, take_id: str) -> None:
    heartbeat(session, worker_id, state="busy", take_id=take_id, resident_model=None)


@pytest.fixture
def workers(engine: Engine) -> None:
    with transaction() as session:
        for pod in UIDS:
            register(session, pod)
        set_busy(session, worker_of("busy"), "take_1")
        set_draining(session, worker_of("drained"))


@pytest.mark.usefixtures("workers")
def test_costs_follow_what_workers_do_and_only_changes_are_written(kubernetes: Cluster) -> None:
    costs = PodCosts(kubernetes.api)
    costs.write_changes()
    assert {pod: kubernetes.cost(pod) for pod in UIDS} == {"busy": "100", "idle": "0", "drained": "-100"}
    costs.write_changes()
    assert sorted(kubernetes.calls) == sorted(UIDS)
    with transaction() as session:
        # A second process of the pod works: the pod is as busy as the busiest.
        register(session, "idle", 9)
        set_busy(session, worker_of("idle", 9), "take_2")
        deregister_worker(session, worker_of("busy"))
    kubernetes.calls.clear()
    costs.write_changes()
    assert (kubernetes.calls, kubernetes.cost("idle")) == (["idle"], "100")


def test_only_the_pod_of_the_worker_is_changed(engine: Engine, kubernetes: Cluster) -> None:
    kubernetes.add("another", "00000009-0000-4000-8000-000000000000")
    with transaction() as session:
        # Its pod was replaced by one of the same name; a worker that is no pod; a host that is no name; one that ended.
        for name, host in ((UIDS["idle"], "another"), ("gpu-1", "busy"), (UIDS["drained"], "../secrets/x")):
            register_worker(session, f"{name}-7-8", pools=["wan"], host=host, pid=8, device="cpu", facts={})
        register_worker(session, worker_of("busy"), pools=["wan"], host="ended", pid=8, device="cpu", facts={})
    costs = PodCosts(kubernetes.api)
    for _ in range(2):
        costs.write_changes()
    assert sorted(kubernetes.calls) == ["another", "ended"], "neither is tried again"
    assert not any(annotations for _, annotations in kubernetes.pods.values())


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("fault", ["no token", "no server", "forbidden", "another name"])
def test_what_cannot_be_written_is_one_line_and_is_written_later(
    kubernetes: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    api = kubernetes.api
    if fault == "no token":
        (tmp_path / "token").unlink()
    elif fault == "no server":
        api = replace(api, url="https://localhost:1")
    elif fault == "forbidden":
        kubernetes.status = 403
    else:
        api = replace(api, url=api.url.replace("localhost", "127.0.0.1"))
    costs = PodCosts(api)
    with caplog.at_level(logging.INFO, "app.dispatch.pod_costs"):
        for _ in range(3):
            costs.write_changes()
        assert [entry.levelname for entry in caplog.records] == ["WARNING"]
        assert kubernetes.cost("busy") is None
        kubernetes.status, costs._api = 0, kubernetes.api
        # Tokens are replaced while the process runs.
        kubernetes.renew_token("second")
        costs.write_changes()
    assert [entry.levelname for entry in caplog.records] == ["WARNING", "INFO"]
    assert kubernetes.cost("busy") == "100"


@pytest.mark.usefixtures("workers")
def test_a_cluster_that_hangs_holds_no_row_and_delays_no_round(kubernetes: Cluster) -> None:
    kubernetes.hang.clear()
    costs = PodCosts(replace(kubernetes.api, seconds=60))
    thread = threading.Thread(target=costs.write_changes, daemon=True)
    thread.start()
    assert kubernetes.asked.wait(30)
    with transaction() as session:
        # What a claim and a heartbeat write.
        session.execute(text("SET LOCAL lock_timeout = '1s'"))
        set_busy(session, worker_of("idle"), "take_2")
    assert thread.is_alive()
    kubernetes.hang.set()
    thread.join(30)
    assert kubernetes.cost("busy") == "100"


@pytest.mark.deep
@pytest.mark.usefixtures("world", "workers")
def test_the_command_goes_on_where_there_is_no_cluster(tmp_path: Path, redis_url: str) -> None:
    """Here is no folder with a token: the scheduler says so once, leads, and ends well."""
    log = tmp_path / "log"
    command = [Path(sys.executable).parent / "cinemeter", "scheduler", "--pod-deletion-cost"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, env=child_environment(redis_url=redis_url))
    try:
        # The first pass is after ten seconds.
        wait_until(lambda: "Costs of pods cannot be written" in log.read_text(encoding="utf-8"), "it says so")
    finally:
        process.terminate()
        assert process.wait(60) == 0
    text = log.read_text(encoding="utf-8")
    assert (text.count("Costs of pods"), "FileNotFoundError" in text, "Traceback" in text) == (1, True, False)


@pytest.mark.usefixtures("workers")
def test_the_scheduler_that_leads_writes_and_the_one_that_stands_by_does_not(kubernetes: Cluster) -> None:
    stop = threading.Event()
    run = threading.Thread(target=run_scheduler, args=(stop, PodCosts(kubernetes.api, period=0.05)), daemon=True)
    run.start()
    try:
        wait_until(lambda: kubernetes.cost("busy") == "100", "the leader writes")
        with transaction() as session:
            set_busy(session, worker_of("idle"), "take_2")
        wait_until(lambda: kubernetes.cost("idle") == "100", "the leader writes what has changed")
    finally:
        stop.set()
        run.join(30)
    kubernetes.calls.clear()
    leads, asked = threading.Event(), threading.Semaphore(0)

    def is_leader() -> bool:
        asked.release()
        return leads.is_set()

    stop.clear()
    costs = PodCosts(kubernetes.api, period=0.05)
    standby = threading.Thread(target=run_pod_costs, args=(stop, is_leader, costs), daemon=True)
    standby.start()
    assert all(asked.acquire(timeout=30) for _ in range(3))
    assert kubernetes.calls == []
    leads.set()
    wait_until(lambda: len(kubernetes.calls) == len(UIDS), "it leads now, and writes every cost")
    stop.set()
    standby.join(30)
