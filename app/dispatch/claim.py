"""Claim the next unit of work: pick it fairly, charge the account's share, and lease it, all in one transaction."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import after_commit, new_id, set_idle_timeout
from app.dispatch.throughput import estimate_use
from app.dispatch.worker_registry import idle_by_pool, may_claim, set_current_take
from app.jobs.fair_share import advance_clock, join_share
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.publish_event import publish_job_event
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.settle import expire
from app.jobs.states import JobState, Stage, TakeState, UnitState, advance, is_final
from app.jobs.tables import Job
from app.metrics import CLAIMS, WAIT_SECONDS
from app.settings import get_settings
from app.wakeups import wake_after_commit

CLAIM_SQL = text(files("app.dispatch").joinpath("claim.sql").read_text())

# A chosen unit may have been cancelled or have expired meanwhile; then the next one is chosen at once.
CHOICES_MAX = 100


@dataclass(frozen=True)
class Claim:
    """A leased take: what the worker must render, and the fence that each of its writes must carry."""

    take_id: str
    fence: int
    unit_id: str
    job_id: str
    kind: str
    pool: str
    model: str
    lease_until: datetime
    traceparent: str | None = None  # of the request that made the job, as is request_id
    request_id: str | None = None

    def ids(self) -> dict[str, str]:
        """Return the ids that each log line about this take carries."""
        request = {"request_id": self.request_id} if self.request_id else {}
        return {**request, "job_id": self.job_id, "take_id": self.take_id}


def claim(session: Session, worker_id: str, pools: list[str], resident_model: str | None = None) -> Claim | None:
    """Lease the next unit of the first pool that has one; `pools` are tried in order.

    Returns None when no pool has eligible work, or the worker is draining. `resident_model` is the model already
    loaded on the worker's GPU: a unit for it may jump the fair order by at most the affinity window
    (settings.affinity_seconds, virtual GPU-seconds).
    """
    set_idle_timeout(session)
    if not may_claim(session, worker_id):
        return None
    for pool in pools:
        lease = _claim_from(session, worker_id, pool, resident_model)
        if lease is not None:
            set_current_take(session, worker_id, lease.take_id)
            # One wake-up wakes one worker, so a worker that leaves work in the queue wakes the next.
            if idle_by_pool(session)[pool] and _has_ready(session, pool):
                wake_after_commit(session, pool)
            return lease
    return None


def peek(session: Session, pool: str, resident_model: str | None = None) -> str | None:
    """Return the id of the unit that a claim from this pool would lease now, or None.

    Nothing is locked or charged: by the time of the claim another unit may be the fair choice.
    """
    choice = session.execute(CLAIM_SQL, _choice_inputs(pool, resident_model, now(session))).one_or_none()
    return None if choice is None else str(choice.unit_id)


def _choice_inputs(pool: str, resident_model: str | None, moment: datetime) -> dict[str, Any]:
    return {
        "pool": pool,
        "finish_pool": FINISH_POOL,
        "test_pool": TEST_POOL,
        "now": moment,
        "affinity": get_settings().affinity_seconds,
        "resident": resident_model,
    }


def _claim_from(session: Session, worker_id: str, pool: str, resident_model: str | None) -> Claim | None:
    # One claim per pool at a time, so that two workers cannot both see the same head of the queue.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:pool))"), {"pool": f"claim:{pool}"})
    moment = now(session)
    for _ in range(CHOICES_MAX):
        choice = session.execute(CLAIM_SQL, _choice_inputs(pool, resident_model, moment)).one_or_none()
        if choice is None:
            return None
        job, unit = _lock(session, choice.unit_id)
        if _may_start(session, job, unit):
            return _lease(session, worker_id, job, unit, vmin=choice.vmin, jumps=choice.jumps)
    return None


def _lock(session: Session, unit_id: str) -> tuple[Job, Unit]:
    """Lock the unit's job, then the unit: the order of every verb that touches both."""
    job_id = session.scalars(select(Unit.job_id).where(Unit.id == unit_id)).one()
    job = session.get_one(Job, job_id, populate_existing=True, with_for_update=True)
    unit = session.get_one(Unit, unit_id, populate_existing=True, with_for_update=True)
    return job, unit


def _may_start(session: Session, job: Job, unit: Unit) -> bool:
    """Return whether a chosen unit may be leased. What prevents it is corrected, or the unit would be chosen again."""
    if unit.state != UnitState.READY:
        return False
    if is_final(job.state):
        unit.state = UnitState.DROPPED
    elif job.state == JobState.QUEUED and job.not_after is not None and job.not_after <= now(session):
        expire(session, job)
    elif session.scalar(select(Take.id).where(Take.unit_id == unit.id, Take.state == TakeState.RUNNING)):
        unit.state = UnitState.RUNNING
    else:
        return unit.kind != "segment" or _has_room(session, unit)
    session.flush()
    return False


def _has_room(session: Session, unit: Unit) -> bool:
    """Return whether the account may run one more segment, counted again with its claims in other pools locked out."""
    account_lock = {"account": f"segments:{unit.account_id}"}
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:account))"), account_lock)
    running = session.scalar(
        select(func.count()).where(
            Take.account_id == unit.account_id,
            Take.state == TakeState.RUNNING,
            Take.kind == "segment",
            (Take.pool == TEST_POOL) == (unit.pool == TEST_POOL),
        )
    )
    return (running or 0) < _share(session, unit).concurrency


def _lease(session: Session, worker_id: str, job: Job, unit: Unit, *, vmin: Decimal, jumps: bool) -> Claim:
    moment = lease_now(session)
    share = _share(session, unit)
    charged = estimate_use(session, unit, resolution=str(job.spec["resolution"]))
    share.vtime += charged / share.weight
    share.jumped = share.jumped + charged if jumps else Decimal(0)
    advance_clock(session, unit.pool, vmin)
    unit.state = UnitState.RUNNING
    take = Take(
        id=new_id("take"),
        unit_id=unit.id,
        job_id=unit.job_id,
        account_id=unit.account_id,
        pool=unit.pool,
        model=unit.model,
        kind=unit.kind,
        worker_id=worker_id,
        lease_until=moment + timedelta(seconds=get_settings().lease_seconds),
        charged=charged,
        started_at=moment,
    )
    session.add(take)
    session.flush()
    if job.state == JobState.QUEUED:
        _start(session, job, unit.pool)
    claims = CLAIMS.labels(unit.pool, unit.kind)
    after_commit(session, claims.inc)
    return Claim(
        take_id=take.id,
        fence=take.fence,
        unit_id=unit.id,
        job_id=job.id,
        kind=unit.kind,
        pool=unit.pool,
        model=unit.model,
        lease_until=take.lease_until,
        traceparent=job.traceparent,
        request_id=job.request_id,
    )


def _share(session: Session, unit: Unit) -> Share:
    """Return the account's share in the unit's pool, locked. Submission creates it; a missing one is created here."""
    key = (unit.pool, unit.account_id)
    share = session.get(Share, key, with_for_update=True, populate_existing=True)
    if share is None:
        join_share(session, unit.pool, unit.account_id, weight=Decimal(1), concurrency=1)
        share = session.get_one(Share, key, with_for_update=True)
    return share


def _start(session: Session, job: Job, pool: str) -> None:
    """Start a job with the first lease of one of its units."""
    moment = now(session)
    advance(job, JobState.IN_PROGRESS, at=moment)
    job.stage = Stage.FINISHING if pool == FINISH_POOL else Stage.RENDERING
    # A flex job that has started must not starve half done: from its first lease on it has standard priority.
    job.promote_at = None
    session.execute(update(Unit).where(Unit.job_id == job.id, Unit.priority == 2).values(priority=1))
    publish_job_event(session, job, "video.started")
    waited = (moment - job.created_at).total_seconds()
    waits = WAIT_SECONDS.labels(pool, str(job.spec["service_tier"]))
    after_commit(session, lambda: waits.observe(waited))


def _has_ready(session: Session, pool: str) -> bool:
    return bool(session.scalar(select(Unit.id).where(Unit.pool == pool, Unit.state == UnitState.READY).limit(1)))
