"""The registry of workers: each sends a heartbeat about once a second and learns whether it should drain."""

import logging
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.clock import lease_clock_input, lease_now
from app.errors import not_found
from app.jobs.queue_tables import Take, Worker
from app.jobs.states import TakeState, WorkerState
from app.settings import get_settings
from app.sql_statements import sql_file

log = logging.getLogger(__name__)

# A worker without a heartbeat for this long counts as gone; the lease of its take expires independently.
SILENT_SECONDS = 60
# For so long the console can show a worker that is gone.
KEEP_GONE_DAYS = 1
_HEARTBEAT = sql_file("app.dispatch", "heartbeat.sql")
# The error code of a take whose worker process was observed to die.
WORKER_DIED = "worker_died"


@dataclass(frozen=True)
class Claimant:
    """What a claim has to know of its worker: what units may need of its GPU, None where all fit, and its device."""

    memory_mb: int | None = None
    features: list[str] | None = None
    device_name: str = ""


# A worker that is not registered, or has reported nothing.
ANY_GPU = Claimant()


@dataclass(frozen=True)
class WorkerOrders:
    """The answer to a worker's heartbeat."""

    drain: bool = False
    leave_in: float | None = None  # seconds until it must stop, wherever it is, and release its take


def register_worker(
    session: Session,
    worker_id: str,
    *,
    pools: list[str],
    host: str,
    pid: int,
    device: str,
    facts: dict[str, Any],
    state: str = WorkerState.IDLE,
) -> None:
    """Register a worker process: idle, or `starting` while it cannot answer a wake-up yet.

    `facts` with `memory_bytes` and `features` say what fits its GPU; a worker that leaves one out may claim all in it.
    """
    moment = lease_now(session)
    memory_bytes = facts.get("memory_bytes")
    memory_mb = None if memory_bytes is None else int(memory_bytes) // 2**20
    values = {
        "pools": pools,
        "host": host,
        "pid": pid,
        "device": device,
        "facts": facts,
        "memory_mb": memory_mb,
        "features": facts.get("features"),
        "state": state,
        "drain_requested": False,
        "leave_at": None,
        "started_at": moment,
        "seen_at": moment,
    }
    _warn_of_missing_memory(worker_id, pools, str(facts.get("name", "")), memory_mb)
    row = insert(Worker).values(id=worker_id, **values)
    session.execute(row.on_conflict_do_update(index_elements=["id"], set_=values))


def _warn_of_missing_memory(worker_id: str, pools: list[str], device_name: str, memory_mb: int | None) -> None:
    """Log the class of pools.toml that asks for more memory than its GPUs report: its units would fit none of them."""
    for pool in pools:
        lacking = pool_plan(pool, get_settings().catalog_dir).class_short_of_memory(device_name, memory_mb)
        if lacking is not None:
            log.warning(
                "Worker %s of pool %s has %s MiB, less than its class %s in pools.toml says: %s",
                *(worker_id, pool, memory_mb, lacking.name, lacking.memory_mb),
            )


def heartbeat(
    session: Session, worker_id: str, *, state: str, take_id: str | None, resident_model: str | None
) -> WorkerOrders:
    """Record a worker's state, and return its orders."""
    inputs = {"worker_id": worker_id, "state": str(state), "take_id": take_id, "resident_model": resident_model}
    row = _HEARTBEAT.run(session, inputs | {"now": lease_clock_input(session)}).one_or_none()
    return WorkerOrders() if row is None else orders_of(session, drain=row.drain_requested, leave_at=row.leave_at)


def orders_of(session: Session, *, drain: bool | None, leave_at: datetime | None) -> WorkerOrders:
    """Return a worker's orders from the columns of its row; an unregistered one, without a row, has none."""
    leave_in = (leave_at - lease_now(session)).total_seconds() if leave_at else None
    return WorkerOrders(drain=bool(drain), leave_in=leave_in)


def set_draining(session: Session, worker_id: str, *, drain: bool = True) -> Worker:
    """Ask a worker to end its take and claim no more, or to resume. Raises AppError `not_found`."""
    worker = session.get(Worker, worker_id, with_for_update=True)
    if worker is None:
        raise not_found("worker", worker_id)
    worker.drain_requested = drain
    return worker


def deregister_worker(session: Session, worker_id: str) -> None:
    """Mark a worker that has exited as gone."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(state=WorkerState.GONE, take_id=None))


def silent_workers(session: Session) -> list[str]:
    """Return the ids of workers without a heartbeat for SILENT_SECONDS that are not marked as gone."""
    silent = lease_now(session) - timedelta(seconds=SILENT_SECONDS)
    return list(session.scalars(select(Worker.id).where(Worker.seen_at < silent, Worker.state != WorkerState.GONE)))


def mark_gone(session: Session, worker_id: str) -> bool:
    """Mark a worker without a heartbeat as gone; return whether it still was silent."""
    silent = lease_now(session) - timedelta(seconds=SILENT_SECONDS)
    result = session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.seen_at < silent, Worker.state != WorkerState.GONE)
        .values(state=WorkerState.GONE, take_id=None)
    )
    return bool(result.rowcount)  # type: ignore[attr-defined]


def remove_gone_workers(session: Session, *, limit: int) -> int:
    """Remove the rows of up to `limit` workers that have been gone for a day, those that started first before others.

    Returns how many.
    """
    before = lease_now(session) - timedelta(days=KEEP_GONE_DAYS)
    # Written out, or the planner could not tell from a prepared statement that the index of gone workers has them all.
    is_gone = Worker.state == literal_column(f"'{WorkerState.GONE}'")
    old = select(Worker.id).where(is_gone, Worker.seen_at < before).order_by(Worker.started_at).limit(limit)
    result = session.execute(delete(Worker).where(Worker.id.in_(old.with_for_update(skip_locked=True))))
    return int(result.rowcount)  # type: ignore[attr-defined]


def read_claimant(session: Session, worker_id: str) -> Claimant | None:
    """Return what a claim has to know of a worker; None when it may not claim, because it drains."""
    columns = (Worker.drain_requested, Worker.memory_mb, Worker.features, Worker.facts["name"].astext.label("name"))
    row = session.execute(select(*columns).where(Worker.id == worker_id)).one_or_none()
    if row is None:
        return ANY_GPU
    return None if row.drain_requested else Claimant(row.memory_mb, row.features, row.name or "")


def idle_by_pool(session: Session) -> Counter[str]:
    """Return the number of idle, not draining workers by pool."""
    rows = session.scalars(
        select(Worker.pools).where(
            Worker.state != WorkerState.GONE, Worker.state == WorkerState.IDLE, ~Worker.drain_requested
        )
    )
    return Counter(pool for pools in rows for pool in pools)


def live_workers(session: Session, pool: str) -> int:
    """Return how many workers serve a pool now, busy or idle, except draining ones."""
    serving = (
        Worker.state != WorkerState.GONE,
        Worker.state.in_((WorkerState.STARTING, WorkerState.IDLE, WorkerState.BUSY)),
        ~Worker.drain_requested,
    )
    rows = session.scalars(select(Worker.pools).where(*serving))
    return sum(1 for pools in rows if pool in pools)


def ask_host_to_leave(session: Session, parent: str) -> None:
    """Ask every worker process of one parent to end its take, or to release it once settings.drain_seconds are over.

    The parent calls this when it receives a signal to stop. Unlike a drain from the console it cannot be undone.
    """
    leave_at = lease_now(session) + timedelta(seconds=get_settings().drain_seconds)
    session.execute(
        update(Worker)
        .where(Worker.id.startswith(f"{parent}-", autoescape=True))
        .values(drain_requested=True, leave_at=leave_at)
    )


def release_takes_of_child(session: Session, parent: str) -> int:
    """Expire the leases of a parent's dead child processes now, so that their work is requeued at once.

    Only processes that no longer exist on this host lose their leases. The take that a child rendered is marked with
    WORKER_DIED, by which a unit that kills its workers is recognised; a take that it only uploaded meanwhile is not.
    Returns how many takes were released.
    """
    children = session.scalars(
        select(Worker).where(Worker.id.startswith(f"{parent}-", autoescape=True), Worker.state != WorkerState.GONE)
    ).all()
    dead = [child for child in children if not is_alive(child.pid)]
    if not dead:
        return 0
    rendered = [child.take_id for child in dead if child.take_id is not None]
    for child in dead:
        child.state, child.take_id = WorkerState.GONE, None
    moment = lease_now(session)
    expired = session.execute(
        update(Take)
        .where(
            Take.worker_id.in_([child.id for child in dead]), Take.state == TakeState.RUNNING, Take.lease_until > moment
        )
        .values(lease_until=moment, error_code=case((Take.id.in_(rendered), WORKER_DIED), else_=Take.error_code))
    )
    return int(expired.rowcount)  # type: ignore[attr-defined]


def is_alive(pid: int) -> bool:
    """Return whether a process of this host exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
