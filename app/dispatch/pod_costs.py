"""What ending each worker's pod costs, written for Kubernetes by the leading scheduler.

When a Deployment is scaled down, Kubernetes ends the pods with the lowest `controller.kubernetes.io/pod-deletion-cost`
first, so that idle workers end and busy ones go on. The scheduler knows from its rows what every worker does; so no
worker needs a key of the cluster. The pod is that of the worker's host, and the uid in the worker's name is sent with
each change: Kubernetes refuses it (409) where another pod has that name.

Nothing waits for this: it runs in a thread of its own, without a transaction, and a cost that could not be written is
written in a later pass.
"""

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db import transaction
from app.jobs.queue_tables import Worker
from app.jobs.states import WorkerState
from app.net import Egress, Sender

log = logging.getLogger(__name__)

COST = "controller.kubernetes.io/pod-deletion-cost"
# A pod without the annotation costs 0.
BUSY, IDLE, DRAINED = 100, 0, -100
# Kubernetes asks not to change it often. Takes last longer, and an autoscaler waits for minutes before it ends pods.
PERIOD_SECONDS = 10.0
# What one pass writes at most, and how much of it at a time.
CHANGES_MAX = 100
PARALLEL = 10
# The pod is gone, another one has its name, or it takes no change: there is nothing to write, and others can be.
_NO_SUCH_POD = (404, 409, 422)

# CINEMETER_WORKER_NAME of the chart is the pod's uid, and ids of workers begin with it.
_UID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-")
_POD_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class ClusterApi:
    """Where the cluster's API is, as a pod sees it, and the folder with its token, namespace and authority."""

    url: str = "https://kubernetes.default.svc"
    folder: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    seconds: float = 3.0  # for one call


@dataclass(frozen=True, order=True)
class WorkerPod:
    """The pod of one or more worker processes."""

    name: str
    uid: str


def pod_costs(session: Session) -> dict[WorkerPod, int]:
    """Return the cost of each pod that runs workers: by the busiest of its processes."""
    columns = (Worker.id, Worker.host, Worker.take_id, Worker.drain_requested)
    costs: dict[WorkerPod, int] = {}
    for row in session.execute(select(*columns).where(Worker.state != WorkerState.GONE)):
        uid = _UID.match(row.id)
        if uid is None or not _POD_NAME.fullmatch(row.host):
            continue
        pod = WorkerPod(row.host, uid[1])
        cost = BUSY if row.take_id else DRAINED if row.drain_requested else IDLE
        costs[pod] = max(cost, costs.get(pod, DRAINED))
    return costs


class PodCosts:
    """The costs as far as this process has written them."""

    def __init__(self, api: ClusterApi | None = None, *, period: float = PERIOD_SECONDS) -> None:
        self.period = period
        self._api = api or ClusterApi()
        self._written: dict[WorkerPod, int] = {}
        self._fault = ""

    def forget(self) -> None:
        """Write every cost again in the next pass: another scheduler may lead, and write others meanwhile."""
        self._written.clear()

    def write_changes(self) -> None:
        """Write the costs that have changed since the last pass, those of busy pods first. Never raises."""
        try:
            with transaction() as session:
                costs = pod_costs(session)
            self._written = {pod: cost for pod, cost in self._written.items() if pod in costs}
            changes = [(cost, pod) for pod, cost in costs.items() if self._written.get(pod) != cost]
            changes.sort(reverse=True)
            fault = asyncio.run(self._write(changes[:CHANGES_MAX])) if changes else self._fault
        except (OSError, ValueError, SQLAlchemyError) as error:
            fault = type(error).__name__
        # One line where it begins to fail and one where that ends, not one in each pass.
        if fault != self._fault:
            if fault:
                log.warning("Costs of pods cannot be written, Kubernetes may end busy workers: %s", fault)
            else:
                log.info("Costs of pods are written again")
        self._fault = fault

    async def _write(self, changes: Sequence[tuple[int, WorkerPod]]) -> str:
        """Write these costs until one cannot be written; return why, or an empty text."""
        folder = self._api.folder
        # Kubernetes replaces the token before it expires, so it is read each time.
        token = (folder / "token").read_text(encoding="ascii").strip()
        namespace = (folder / "namespace").read_text(encoding="ascii").strip()
        egress = Egress(allow_private=True, strict_urls=False, ca_file=folder / "ca.crt")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
        pods = f"{self._api.url}/api/v1/namespaces/{namespace}/pods"
        async with Sender(egress, seconds=self._api.seconds) as sender:

            async def write(cost: int, pod: WorkerPod) -> str:
                change = {"metadata": {"uid": pod.uid, "annotations": {COST: str(cost)}}}
                answer = await sender.patch(f"{pods}/{pod.name}", json.dumps(change).encode(), headers)
                if answer.status != 200 and answer.status not in _NO_SUCH_POD:
                    return f"status {answer.status}" if answer.status else str(answer.fault)
                self._written[pod] = cost
                return ""

            for start in range(0, len(changes), PARALLEL):
                faults = await asyncio.gather(*(write(*change) for change in changes[start : start + PARALLEL]))
                fault = next(filter(None, faults), "")
                if fault:
                    return fault
        return ""


def run_pod_costs(stop: threading.Event, is_leader: Callable[[], bool], costs: PodCosts) -> None:
    """Write what has changed every `costs.period` seconds while this process leads, until `stop` is set."""
    while not stop.wait(costs.period):
        if is_leader():
            costs.write_changes()
        else:
            costs.forget()
