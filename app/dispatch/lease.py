"""Leases of takes: renew, succeed, fail, release and lose. Every write is fenced; a lost lease can write nothing."""

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.dispatch.claim import Claim
from app.dispatch.throughput import record_throughput_after_commit
from app.dispatch.worker_registry import WORKER_DIED, WorkerOrders, orders_of
from app.jobs.fair_share import settle_share
from app.jobs.meter import end_take
from app.jobs.plan import FINISH_POOL, TEST_POOL, enqueue_finish
from app.jobs.queue_tables import Take, Unit
from app.jobs.settle import StoredFilm, complete, fail
from app.jobs.spec import Spec
from app.jobs.states import Stage, TakeState, UnitState
from app.jobs.tables import Job
from app.metrics import STALE_WRITES
from app.settings import get_settings
from app.sql_statements import SqlStatement, mark_written, row_columns, row_of, sql_file
from app.wakeups import wake_after_commit

# A segment whose takes crashed two workers is poison: its job fails and is refunded before a third worker crashes.
POISON_LOSSES = 2
# The error codes of takes that ended because storage could not be reached, or a film could not be checked by what the
# policy of moderation names, and the maximum of such takes per unit. Their back-off adds up to a quarter of an hour, so
# that a short outage fails no job.
STORAGE_FAILED = "storage_failed"
CHECK_FAILED = "check_failed"
OUTAGES = frozenset({STORAGE_FAILED, CHECK_FAILED})
OUTAGE_TAKES_MAX = 10
# Back-off of a failed unit: seconds, doubled with each error, at most five minutes.
BACKOFF_SECONDS = 2
BACKOFF_SECONDS_MAX = 300


_RENEW_LEASE = sql_file("app.dispatch", "renew_lease.sql")
_END_TAKE = sql_file("app.dispatch", "end_take.sql")
_OPEN_NEXT = sql_file("app.dispatch", "open_next.sql")
# Each row is locked in the order of `OF`, and returned as it is once it is locked.
_LOCK_TAKE = SqlStatement(f"""
    SELECT {row_columns(Job, "j")}, {row_columns(Take, "t")}, {row_columns(Unit, "u")}
    FROM jobs AS j JOIN takes AS t ON t.job_id = j.id JOIN units AS u ON u.id = t.unit_id
    WHERE j.id = :job_id AND t.id = :take_id
    FOR UPDATE OF j, t, u
""")


class LeaseLost(Exception):
    """The take is no longer this worker's: its lease expired, or the job ended. Its output is discarded."""


def renew_lease(session: Session, claim: Claim, *, step: int, steps: int, percent: int | None = None) -> WorkerOrders:
    """Renew the lease and report progress (`step` of `steps`). Raises LeaseLost when the take is no longer ours."""
    moment = lease_now(session)
    inputs = {
        "take_id": claim.take_id,
        "job_id": claim.job_id,
        "fence": claim.fence,
        "now": moment,
        "until": moment + timedelta(seconds=get_settings().lease_seconds),
        "step": step,
        "steps": steps,
        "percent": percent,
    }
    orders = _RENEW_LEASE.run(session, inputs).one_or_none()
    if orders is None:
        STALE_WRITES.inc()
        raise LeaseLost(claim.take_id)
    return orders_of(session, drain=orders.drain_requested, leave_at=orders.leave_at)


def lock_take(session: Session, claim: Claim) -> tuple[Job, Take, Unit]:
    """Lock the job, the take and the unit, in this order, and verify the lease. Raises LeaseLost."""
    row = _LOCK_TAKE.run(session, {"job_id": claim.job_id, "take_id": claim.take_id}).one()
    job, take, unit = row_of(session, Job, "j", row), row_of(session, Take, "t", row), row_of(session, Unit, "u", row)
    if take.fence != claim.fence or take.state != TakeState.RUNNING or take.lease_until <= lease_now(session):
        STALE_WRITES.inc()
        raise LeaseLost(claim.take_id)
    return job, take, unit


def keep_checkpoint(session: Session, claim: Claim, key: str) -> None:
    """Record the key of a running segment's newest checkpoint, for a retry on any worker. Raises LeaseLost."""
    lock_take(session, claim)
    session.execute(update(Unit).where(Unit.id == claim.unit_id).values(checkpoint_key=key))


def succeed_segment(
    session: Session, claim: Claim, *, clip_key: str, handover_key: str | None, meter: dict[str, Any]
) -> None:
    """Record a rendered segment: its clip counts, and the next segment of its shot or the finish becomes ready.

    `meter` holds the take's seconds by stage and `gpu_seconds` (decimal string). Raises LeaseLost.
    """
    job, take, unit = lock_take(session, claim)
    is_last = job.units_done + 1 == job.units_total
    job.units_done += 1
    job.stage = Stage.FINISHING if is_last else job.stage
    unit.clip_key, unit.handover_key = clip_key, handover_key
    # The finish becomes ready with the last segment, so its lane is covered too.
    pools = {take.pool, FINISH_POOL} if is_last else {take.pool}
    _end_take(session, job, take, unit, meter=meter, pools=pools)
    record_throughput_after_commit(session, take, frames=unit.frames, resolution=str(job.spec["resolution"]))
    if is_last:
        terms: dict[str, Any] = {"priority": unit.priority, "spec": Spec.model_validate(job.spec)}
        enqueue_finish(session, job_id=job.id, account_id=job.account_id, at=now(session), **terms)
        wake_after_commit(session, FINISH_POOL)
    for pool in _open_next(session, unit):
        wake_after_commit(session, pool)


def succeed_finish(session: Session, claim: Claim, film: StoredFilm, *, meter: dict[str, Any]) -> Job:
    """Record the finished film: the job completes, is receipted and paid in this transaction. Raises LeaseLost."""
    job, take, unit = lock_take(session, claim)
    _end_take(session, job, take, unit, meter=meter, pools={take.pool})
    record_throughput_after_commit(session, take, frames=film.frames, resolution=str(job.spec["resolution"]))
    complete(session, job, film)
    return job


def _end_take(
    session: Session, job: Job, take: Take, unit: Unit, *, meter: dict[str, Any], pools: Collection[str]
) -> None:
    """Write in one statement that a take has succeeded: the take, its unit, its job and its account's share.

    `pools` are those whose lanes change with the transaction.
    """
    moment = lease_now(session)
    end_take(session, take, TakeState.SUCCEEDED, ended_at=moment, meter=meter)
    correction = Decimal(0) if take.share_settled else _used(take, moment) - take.charged
    take.clip_key, take.share_settled = unit.clip_key, True
    unit.state, unit.done_at, unit.checkpoint_key = UnitState.DONE, moment, None
    inputs = {
        "account_id": take.account_id,
        "pool": take.pool,
        "pools": sorted(pools),
        "correction": correction,
        "take_id": take.id,
        "now": moment,
        "meter": json.dumps(meter),
        "gpu_seconds": take.gpu_seconds,
        "gpu_cost": take.gpu_cost,
        "clip_key": unit.clip_key,
        "unit_id": unit.id,
        "handover_key": unit.handover_key,
        "job_id": job.id,
        "units_done": job.units_done,
        "stage": job.stage,
    }
    _END_TAKE.run(session, inputs, flush=False)
    mark_written(take, "state", "ended_at", "meter", "gpu_seconds", "gpu_cost", "clip_key", "share_settled")
    mark_written(unit, "state", "done_at", "clip_key", "handover_key", "checkpoint_key")
    mark_written(job, "units_done", "stage")


def _open_next(session: Session, unit: Unit) -> list[str]:
    """Make the next segment of the shot ready; return the pools in which the account has ready segments."""
    inputs = {"job_id": unit.job_id, "shot": unit.shot, "position": unit.position + 1, "pool": unit.pool}
    inputs |= {"account_id": unit.account_id, "finish_pool": FINISH_POOL, "test_pool": TEST_POOL}
    return [row.pool for row in _OPEN_NEXT.run(session, inputs)]


def close_take(
    session: Session, take: Take, state: TakeState, *, meter: dict[str, Any] | None = None, refund: bool = False
) -> None:
    """End a take and correct its account's share to what it used, or refund all of it when the fault was ours."""
    moment = lease_now(session)
    end_take(session, take, state, ended_at=moment, meter=meter)
    settle_share(session, take, Decimal(0) if refund else _used(take, moment))


def _used(take: Take, ended_at: datetime) -> Decimal:
    """Return what an ended take used of its account's share: GPU-seconds, or the seconds of a finish."""
    return take.gpu_seconds if take.kind == "segment" else Decimal(str((ended_at - take.started_at).total_seconds()))


def fail_take(
    session: Session, claim: Claim, *, code: str, message: str, permanent: bool, meter: dict[str, Any] | None = None
) -> None:
    """Record a failed take: retry the unit after a back-off, or fail the job when its error budget is spent.

    An outage is no error of the unit's and has a budget of its own (`code` is one of OUTAGES). `permanent` means that a
    retry would fail in the same way. Raises LeaseLost.
    """
    job, take, unit = lock_take(session, claim)
    close_take(session, take, TakeState.FAILED, meter=meter, refund=True)
    take.error_code, take.error_message = code, message[:2000]
    if code in OUTAGES:
        session.flush()
        attempts, budget = _outages(session, unit, code), OUTAGE_TAKES_MAX
    else:
        unit.takes_error += 1
        attempts, budget = unit.takes_error, get_settings().takes_error_max
    if permanent or attempts >= budget:
        unit.state = UnitState.DROPPED
        fail(session, job, code=code, message=message)
    else:
        _requeue(session, unit, attempts=attempts)


def _outages(session: Session, unit: Unit, code: str) -> int:
    """Count the takes of a unit that ended by an outage of this kind."""
    failed = (Take.state == TakeState.FAILED, Take.error_code == code)
    return session.scalar(select(func.count()).where(Take.unit_id == unit.id, *failed)) or 0


def release_take(session: Session, claim: Claim, *, meter: dict[str, Any] | None = None) -> None:
    """Release a take without penalty, as a draining worker does; the unit is ready at once. Raises LeaseLost."""
    _, take, unit = lock_take(session, claim)
    close_take(session, take, TakeState.RELEASED, meter=meter, refund=True)
    unit.state = UnitState.READY
    wake_after_commit(session, unit.pool)


def lose_take(session: Session, take_id: str, job_id: str) -> bool:
    """Mark a running take whose lease has expired as lost and requeue its unit, or fail the job of a poison unit.

    Returns whether there was anything to do; calling it twice, or from two schedulers, changes nothing more.
    """
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    take = session.get_one(Take, take_id, with_for_update=True, populate_existing=True)
    if take.state != TakeState.RUNNING or take.lease_until > lease_now(session):
        return False
    unit = session.get_one(Unit, take.unit_id, with_for_update=True, populate_existing=True)
    close_take(session, take, TakeState.LOST, refund=True)
    if unit.state != UnitState.RUNNING:
        return True
    unit.takes_lost += 1
    if _is_poison(session, unit) or unit.takes_lost >= get_settings().takes_lost_max:
        unit.state = UnitState.DROPPED
        fail(
            session,
            job,
            code="worker_lost",
            message="The workers that rendered this job were lost. The job has failed; nothing is charged.",
        )
    else:
        _requeue(session, unit, attempts=0)
    return True


def _is_poison(session: Session, unit: Unit) -> bool:
    """Return whether this segment crashed two different workers.

    Counted are processes whose death was observed during the take, and workers that renewed their lease and went silent
    before the first step, as happens where a whole machine hangs. A take without one renewal proves nothing about the
    segment: its worker may have waited for the lease itself. A worker that goes silent later was most likely cut off
    from the network, which is not the segment's fault: that counts towards the budget of losses only.
    """
    lost_workers = session.scalars(
        select(Take.worker_id).where(
            Take.unit_id == unit.id,
            Take.state == TakeState.LOST,
            or_((Take.step == 0) & Take.renewed_at.is_not(None), Take.error_code == WORKER_DIED),
        )
    )
    return unit.kind == "segment" and len(set(lost_workers)) >= POISON_LOSSES


def _requeue(session: Session, unit: Unit, *, attempts: int) -> None:
    unit.state = UnitState.READY
    if attempts:
        pause = min(BACKOFF_SECONDS * 2 ** (attempts - 1), BACKOFF_SECONDS_MAX)
        unit.not_before = now(session) + timedelta(seconds=pause)
    wake_after_commit(session, unit.pool)
