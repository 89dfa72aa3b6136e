"""Claim the next unit of work: pick it fairly, charge the account's share, and lease it, all in one transaction.

Claims of one pool run one after the other, so a claim never waits for a row that another transaction holds: that
process may be frozen, and the pool would stop with it. Such an account is left out, and the next choice is taken.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.clock import lease_now, now, read_again
from app.db import after_commit, is_lock_timeout, new_id
from app.dispatch.choice import Choice
from app.dispatch.claim_locks import lock_free_rows, lock_rows
from app.dispatch.throughput import estimate_use
from app.dispatch.worker_registry import idle_by_pool, read_claimant, set_current_take
from app.jobs.deadlines import is_overdue
from app.jobs.fair_share import advance_clock
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.publish_event import publish_job_event
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.settle import expire
from app.jobs.states import JobState, Stage, TakeState, UnitState, advance, is_final
from app.jobs.tables import Job
from app.metrics import CLAIMS, WAIT_SECONDS
from app.settings import get_settings
from app.trace import trace_id_of
from app.wakeups import wake_after_commit

# A chosen unit may have been cancelled or have expired meanwhile; then the next one is chosen at once.
CHOICES_MAX = 100
# How long a claim waits for the rows of an account when nobody else has work, in milliseconds. Most transactions are
# shorter, and without work for others the wait delays nobody.
LONE_WAIT_MS = 300


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
    account_id: str = ""
    worker_id: str = ""
    traceparent: str | None = None  # of the request that made the job, as is request_id
    request_id: str | None = None

    def ids(self) -> dict[str, str]:
        """Return the ids that each log line about this take carries: its own, and those of what it is part of."""
        ids = {
            "request_id": self.request_id,
            "trace_id": trace_id_of(self.traceparent),
            "account_id": self.account_id,
            "job_id": self.job_id,
            "take_id": self.take_id,
            "worker_id": self.worker_id,
        }
        return {name: each for name, each in ids.items() if each}


class NoLease(Enum):
    """Why a pool gave no lease."""

    UNCHANGED = auto()  # no eligible work; nothing was written
    CORRECTED = auto()  # the units that were chosen could not start and were corrected
    EXPIRED = auto()  # the chosen unit's job was past its deadline and has ended


def claim(session: Session, worker_id: str, pools: list[str], resident_model: str | None = None) -> Claim | None:
    """Lease the next unit that fits the worker's GPU, of the first pool that has one; `pools` are tried in order.

    Returns None when no pool has eligible work, when the worker is draining, or when the chosen job expired instead;
    then its pool is woken again. `resident_model` is the model already loaded on the worker's GPU: a unit for it may
    jump the fair order by at most the affinity window (settings.affinity_seconds, virtual GPU-seconds).
    """
    worker = read_claimant(session, worker_id)
    if worker is None:
        return None
    by = Choice(worker_id, worker, resident_model)
    for pool in pools:
        # The lock of a pool without work is released before the next pool's is taken, so that workers may name their
        # pools in any order.
        with session.begin_nested() as point:
            lease = _claim_from(session, by, pool)
            if lease is NoLease.UNCHANGED:
                point.rollback()
        if lease is NoLease.EXPIRED:
            return None
        if isinstance(lease, Claim):
            set_current_take(session, worker_id, lease.take_id)
            # One wake-up wakes one worker, so a worker that leaves work in the queue wakes the next.
            if idle_by_pool(session)[pool] and _has_ready(session, pool):
                wake_after_commit(session, pool)
            return lease
    return None


def _claim_from(session: Session, by: Choice, pool: str) -> Claim | NoLease:
    # One claim per pool at a time, so that two workers cannot both see the same head of the queue.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:pool))"), {"pool": f"claim:{pool}"})
    moment = now(session)
    excluded: dict[str, str] = {}  # account → its unit that was chosen first
    no_lease = NoLease.UNCHANGED
    for _ in range(CHOICES_MAX):
        choice = by.run(session, pool, moment, excluded)
        if choice is None:
            break
        rows = lock_free_rows(session, choice.unit_id)
        if isinstance(rows, str):
            excluded[rows] = choice.unit_id
        elif _expire_overdue(session, *rows):
            return NoLease.EXPIRED
        elif _may_start(session, *rows):
            return _lease(session, by, *rows, choice)
        else:
            no_lease = NoLease.CORRECTED
    if not excluded:
        return no_lease
    unit_id = next(iter(excluded.values()))
    return _claim_alone(session, by, pool, unit_id) or no_lease


def _claim_alone(session: Session, by: Choice, pool: str, unit_id: str) -> Claim | None:
    """Wait a moment for the rows of an account when nobody else has work, and lease its unit."""
    try:
        with session.begin_nested():
            session.execute(text(f"SET LOCAL lock_timeout = '{LONE_WAIT_MS}ms'"))
            rows = lock_rows(session, unit_id)
            session.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        return None
    read_again(session)
    choice = by.run(session, pool, now(session))
    if choice is None or choice.unit_id != unit_id or is_overdue(session, rows[0]) or not _may_start(session, *rows):
        return None
    return _lease(session, by, *rows, choice)


def _expire_overdue(session: Session, job: Job, unit: Unit, _share: Share) -> bool:
    """Expire the job of a chosen unit when its deadline has passed; return whether this was so.

    The end of a job locks the wallet. The claim ends with it, since it must lock no share or lane after that
    (app.lock_order); the pool is woken for the next claim.
    """
    if unit.state != UnitState.READY or not is_overdue(session, job):
        return False
    expire(session, job)
    wake_after_commit(session, unit.pool)
    return True


def _may_start(session: Session, job: Job, unit: Unit, share: Share) -> bool:
    """Return whether a chosen unit may be leased. What prevents it is corrected, or the unit would be chosen again."""
    if unit.state != UnitState.READY:
        return False
    if is_final(job.state):
        unit.state = UnitState.DROPPED
    elif session.scalar(select(Take.id).where(Take.unit_id == unit.id, Take.state == TakeState.RUNNING)):
        unit.state = UnitState.RUNNING
    else:
        return unit.kind != "segment" or _has_room(session, unit, share)
    session.flush()
    return False


def _has_room(session: Session, unit: Unit, share: Share) -> bool:
    """Return whether the account may run one more segment, counted again with its claims in other pools locked out."""
    running = session.scalar(
        select(func.count()).where(
            Take.account_id == unit.account_id,
            Take.state == TakeState.RUNNING,
            Take.kind == "segment",
            (Take.pool == TEST_POOL) == (unit.pool == TEST_POOL),
        )
    )
    return (running or 0) < share.concurrency


def _lease(session: Session, by: Choice, job: Job, unit: Unit, share: Share, choice: Any) -> Claim:
    # `choice` is the row of claim.sql.
    # The lease counts from now, after the last lock: one that was waited for would have used up part of it.
    read_again(session)
    moment = lease_now(session)
    charged = estimate_use(session, unit, resolution=str(job.spec["resolution"]))
    share.vtime = max(share.vtime, choice.vclock) + charged / share.weight
    share.jumped = share.jumped + charged if choice.jumps else Decimal(0)
    advance_clock(session, unit.pool, choice.vmin)
    unit.state = UnitState.RUNNING
    take = Take(
        id=new_id("take"),
        unit_id=unit.id,
        job_id=unit.job_id,
        account_id=unit.account_id,
        pool=unit.pool,
        model=unit.model,
        kind=unit.kind,
        worker_id=by.worker_id,
        gpu=by.gpu_class(unit.pool),
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
        account_id=unit.account_id,
        worker_id=by.worker_id,
        traceparent=job.traceparent,
        request_id=job.request_id,
    )


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
