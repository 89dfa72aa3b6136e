"""Workers with their current takes, and the queues of their pools, for operators."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.jobs.queue_tables import Take, Unit, Worker

WORKERS_MAX = 200


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


def list_worker_rows(session: Session) -> list[WorkerRow]:
    """Return the workers, most recently seen first and those that are gone last."""
    rows = session.execute(
        select(Worker, Take)
        .outerjoin(Take, Take.id == Worker.take_id)
        .order_by((Worker.state == "gone").asc(), Worker.seen_at.desc())
        .limit(WORKERS_MAX)
    )
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
        for worker, take in rows
    ]


def read_pool_queues(session: Session, known_pools: set[str]) -> list[PoolQueue]:
    """Return the queue of each known pool and of each pool that has units, by name."""
    rows = session.execute(
        select(Unit.pool, Unit.state, func.count())
        .where(Unit.state.in_(("ready", "running", "blocked")))
        .group_by(Unit.pool, Unit.state)
    )
    counts: dict[str, dict[str, int]] = {}
    for pool, state, count in rows:
        counts.setdefault(pool, {})[state] = count
    return [
        PoolQueue(pool, **{state: counts.get(pool, {}).get(state, 0) for state in ("ready", "running", "blocked")})
        for pool in sorted(known_pools | set(counts))
    ]


def _current_work(take: Take | None) -> str:
    if take is None:
        return ""
    return f"{take.kind}, step {take.step} of {take.steps}" if take.steps else str(take.kind)
