"""Workers with their current takes, and the queues of their pools, for operators."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.catalog.pools import COLD_STARTS_MAX, load_pools
from app.clock import now
from app.jobs.queue_tables import Take, Unit, Worker
from app.settings import get_settings

WORKERS_MAX = 200
QUEUE_STATES = ("ready", "running", "blocked")


@dataclass(frozen=True)
class WorkerRow:
    """One worker, and the take that it works on."""

    id: str
    host: str
    device: str
    device_name: str | None
    memory_bytes: int | None
    pools: tuple[str, ...]
    state: str
    resident_model: str | None
    drain_requested: bool
    seen_at: datetime
    job_id: str | None
    current_work: str  # "segment, step 3 of 20", or empty


@dataclass(frozen=True)
class PoolQueue:
    """Units of one pool by state: `blocked` ones wait for another unit of their job."""

    pool: str
    ready: int
    running: int
    blocked: int
    # Whether its work waits for workers that an autoscaler starts, and has not waited for longer than that takes.
    is_starting: bool = False


def list_worker_rows(session: Session) -> list[WorkerRow]:
    """Return the workers, most recently seen first, and after them those that are gone, the last started first."""
    query = select(Worker, Take).outerjoin(Take, Take.id == Worker.take_id)
    live = session.execute(query.where(Worker.state != "gone").order_by(Worker.seen_at.desc()).limit(WORKERS_MAX)).all()
    gone = query.where(Worker.state == "gone").order_by(Worker.started_at.desc()).limit(WORKERS_MAX - len(live))
    return [
        WorkerRow(
            id=worker.id,
            host=worker.host,
            device=worker.device,
            device_name=worker.facts.get("name"),
            memory_bytes=worker.facts.get("memory_bytes"),
            pools=tuple(worker.pools),
            state=worker.state,
            resident_model=worker.resident_model,
            drain_requested=worker.drain_requested,
            seen_at=worker.seen_at,
            job_id=take.job_id if take else None,
            current_work=_current_work(take),
        )
        for worker, take in (*live, *session.execute(gone))
    ]


def pools_without_others(workers: Sequence[WorkerRow]) -> dict[str, list[str]]:
    """Return by worker the pools that no other worker serves: draining it leaves their queues standing."""
    live = [each for each in workers if each.state not in ("gone", "draining") and not each.drain_requested]
    serving = Counter(pool for each in live for pool in each.pools)
    return {each.id: [pool for pool in each.pools if serving[pool] == 1] for each in live}


def standing_queues(workers: Sequence[WorkerRow], queues: Sequence[PoolQueue]) -> list[str]:
    """Return the pools in which work waits and that no worker serves, nor one that is being started."""
    served = {
        pool
        for each in workers
        if each.state not in ("gone", "draining") and not each.drain_requested
        for pool in each.pools
    }
    return [each.pool for each in queues if each.ready and not each.is_starting and each.pool not in served]


def unserved_pools(session: Session, pools: set[str]) -> list[str]:
    """Return those of these pools that no live worker serves, by name; a draining one claims nothing more."""
    serving = session.scalars(select(Worker.pools).where(Worker.state != "gone", ~Worker.drain_requested))
    return sorted(pools - {pool for each in serving for pool in each})


def read_pool_queues(session: Session, known_pools: set[str]) -> list[PoolQueue]:
    """Return the queue of each known pool and of each pool that has units, by name."""
    counts: dict[str, dict[str, int]] = {}
    # One query for each state, since each has an index of its own that leaves out the units of the past.
    for state in QUEUE_STATES:
        for pool, count in session.execute(
            select(Unit.pool, func.count()).where(Unit.state == state).group_by(Unit.pool)
        ):
            counts.setdefault(pool, {})[state] = count
    starting = _starting_pools(session)
    return [
        PoolQueue(
            pool, **{state: counts.get(pool, {}).get(state, 0) for state in QUEUE_STATES}, is_starting=pool in starting
        )
        for pool in sorted(known_pools | set(counts))
    ]


def _starting_pools(session: Session) -> set[str]:
    """Return the pools that an autoscaler may start, unless something has waited there for longer than that takes.

    Flex work waits for idle workers by design, so its age says nothing.
    """
    plans = {pool: plan for pool, plan in load_pools(get_settings().catalog_dir).items() if plan.startable()}
    query = select(Unit.pool, func.min(Unit.queued_at)).where(Unit.state == "ready", Unit.priority < 2)
    moment = now(session)
    late = {
        pool
        for pool, oldest in session.execute(query.where(Unit.pool.in_(plans)).group_by(Unit.pool))
        if (moment - oldest).total_seconds() > COLD_STARTS_MAX * plans[pool].cold_start_seconds
    }
    return set(plans) - late


def _current_work(take: Take | None) -> str:
    if take is None:
        return ""
    return f"{take.kind}, step {take.step} of {take.steps}" if take.steps else str(take.kind)
