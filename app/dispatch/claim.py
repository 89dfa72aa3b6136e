"""Claim the next unit of work: pick it fairly, charge the account's share, and lease it, all in one transaction."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.clock import now
from app.db import after_commit, new_id
from app.jobs.announce import announce
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.shares import advance_clock
from app.jobs.states import JobState, Stage, advance, is_final
from app.jobs.tables import Job
from app.metrics import CLAIMS, WAIT_SECONDS
from app.settings import get_settings

CLAIM_SQL = text(files("app.dispatch").joinpath("claim.sql").read_text())

# A unit can vanish between the choice and the lock (a cancel); the next choice follows at once, a few times.
CHOICES_MAX = 5


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
    traceparent: str | None = None  # of the request that made the job


def claim(session: Session, worker_id: str, pools: list[str], resident_model: str | None = None) -> Claim | None:
    """Lease the next unit of the first pool that has one, in the order the worker names its pools.

    Returns None when no pool has eligible work. `resident_model` is the model already on the worker's GPU: a unit
    for it may jump the fair order by at most the affinity window (settings.affinity_seconds, virtual GPU-seconds).
    """
    for pool in pools:
        taken = _claim_from(session, worker_id, pool, resident_model)
        if taken is not None:
            return taken
    return None


def peek(session: Session, pool: str, resident_model: str | None = None) -> str | None:
    """Return the id of the unit that a claim from this pool would lease now, or None.

    Nothing is locked, charged or promised: by the time of the claim another unit may be the fair choice.
    """
    choice = session.execute(CLAIM_SQL, _choice_inputs(pool, resident_model, now(session))).one_or_none()
    return None if choice is None else str(choice.unit_id)


def _choice_inputs(pool: str, resident_model: str | None, moment: datetime) -> dict[str, Any]:
    return {"pool": pool, "now": moment, "affinity": get_settings().affinity_seconds, "resident": resident_model}


def _claim_from(session: Session, worker_id: str, pool: str, resident_model: str | None) -> Claim | None:
    # One chooser per pool at a time, so that two workers cannot both see the same head of the queue.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:pool))"), {"pool": f"claim:{pool}"})
    moment = now(session)
    for _ in range(CHOICES_MAX):
        choice = session.execute(CLAIM_SQL, _choice_inputs(pool, resident_model, moment)).one_or_none()
        if choice is None:
            return None
        unit = _lock(session, choice.unit_id)
        if unit is not None:
            return _lease(session, worker_id, unit, vmin=choice.vmin, moment=moment)
    return None


def _lock(session: Session, unit_id: str) -> Unit | None:
    """Lock the unit's job, then the unit: the order of every verb that touches both. None if it is not ready."""
    job_id = session.scalar(select(Unit.job_id).where(Unit.id == unit_id))
    job = session.scalar(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    )
    unit = session.get(Unit, unit_id, populate_existing=True, with_for_update=True)
    if job is None or unit is None or is_final(job.state) or unit.state != "ready":
        return None
    return unit


def _lease(session: Session, worker_id: str, unit: Unit, *, vmin: Decimal, moment: datetime) -> Claim:
    job = session.get_one(Job, unit.job_id)
    share = session.get_one(Share, (unit.pool, unit.account_id), with_for_update=True)
    share.vtime += unit.estimate / share.weight
    advance_clock(session, unit.pool, vmin)
    unit.state = "running"
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
        charged=unit.estimate,
        started_at=moment,
    )
    session.add(take)
    session.flush()
    if job.state == JobState.QUEUED:
        advance(job, JobState.IN_PROGRESS, at=moment)
        job.stage = Stage.RENDERING
        _leave_flex(session, job)
        announce(session, job, "video.started")
        waited = (moment - job.created_at).total_seconds()
        waits = WAIT_SECONDS.labels(unit.pool, str(job.spec["service_tier"]))
        after_commit(session, lambda: waits.observe(waited))
    claims = CLAIMS.labels(unit.pool, unit.kind)
    after_commit(session, claims.inc)
    return Claim(
        take.id, take.fence, unit.id, job.id, unit.kind, unit.pool, unit.model, take.lease_until, job.traceparent
    )


def _leave_flex(session: Session, job: Job) -> None:
    # A flex job that has started must not be starved half done: from its first lease on it is standard class.
    session.execute(update(Unit).where(Unit.job_id == job.id, Unit.klass == 2).values(klass=1))
