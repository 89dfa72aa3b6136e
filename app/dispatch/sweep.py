"""The sweeper: repairs what a crash left. It may requeue, release and ring; it never charges on a guess."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.bell import ring, rings_waiting
from app.clock import now
from app.db import transaction
from app.dispatch.leader import Leadership
from app.dispatch.lease import lose_take
from app.dispatch.retention import run_retention
from app.dispatch.roster import idle_workers, strike_off
from app.dispatch.tally import tally
from app.jobs.plan import enqueue_finish
from app.jobs.queue_tables import Take, Unit
from app.jobs.quote import expire_quotes
from app.jobs.settle import expire
from app.jobs.shares import settle_share
from app.jobs.spec import Spec
from app.jobs.states import JobState, Stage, TakeState
from app.jobs.tables import Job
from app.settings import get_settings
from app.wallet.lots import accounts_with_expired_lots, expire_lots

log = logging.getLogger(__name__)

BATCH = 200
# A flex job this close to its deadline is served as standard, so that it still starts in time.
FLEX_SLACK = timedelta(hours=2)


def lost_takes(session: Session) -> int:
    """Requeue the units of takes whose lease has run out."""
    due = session.execute(
        select(Take.id, Take.job_id)
        .where(Take.state == TakeState.RUNNING, Take.lease_until < now(session))
        .order_by(Take.lease_until)
        .limit(BATCH)
    ).all()
    return sum(lose_take(session, take_id, job_id) for take_id, job_id in due)


def past_deadlines(session: Session) -> int:
    """Expire queued jobs whose last moment to start has passed."""
    due = session.scalars(
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.not_after <= now(session))
        .order_by(Job.not_after)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for job in due:
        expire(session, job)
    return len(due)


def flex_promotions(session: Session) -> int:
    """Promote flex units whose deadline is near to the standard class."""
    near = select(Job.id).where(
        Job.state == JobState.QUEUED, Job.not_after.is_not(None), Job.not_after <= now(session) + FLEX_SLACK
    )
    moved = session.execute(
        update(Unit).where(Unit.job_id.in_(near), Unit.klass == 2, Unit.state == "ready").values(klass=1)
    )
    return int(moved.rowcount)  # type: ignore[attr-defined]


def expired_quotes(session: Session) -> int:
    """Expire open quotes and give back what they reserved."""
    return expire_quotes(session, limit=BATCH)


def unsettled_shares(session: Session) -> int:
    """Correct the shares of takes that ended without their worker: a cancel, or the end of their job."""
    ended = session.scalars(
        select(Take)
        .where(Take.state != TakeState.RUNNING, Take.share_settled.is_(False))
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for take in ended:
        seconds = (take.ended_at - take.started_at).total_seconds() if take.ended_at else 0.0
        take.gpu_seconds = Decimal(str(seconds))
        settle_share(session, take, take.gpu_seconds)
    return len(ended)


def stuck_stages(session: Session) -> int:
    """Open the finish of a job whose segments are all done but that has none, whatever the reason."""
    has_finish = select(Unit.id).where(Unit.job_id == Job.id, Unit.kind == "finish").exists()
    stuck = session.scalars(
        select(Job)
        .where(Job.state == JobState.IN_PROGRESS, Job.units_done >= Job.units_total, ~has_finish)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for job in stuck:
        job.stage = Stage.FINISHING
        enqueue_finish(
            session,
            job_id=job.id,
            account_id=job.account_id,
            klass=1,
            spec=Spec.model_validate(job.spec),
            at=now(session),
        )
    return len(stuck)


def silent_workers(session: Session) -> int:
    """Take workers off the roster that have not been seen for a minute."""
    return strike_off(session)


def expired_credit(session: Session) -> int:
    """Book what is left in credit lots that have expired. Spending them was refused from their last moment on."""
    accounts = accounts_with_expired_lots(session, limit=BATCH)
    for account_id in accounts:
        expire_lots(session, account_id)
    return len(accounts)


REPAIRS: dict[str, Callable[[Session], int]] = {
    "lost_takes": lost_takes,
    "past_deadlines": past_deadlines,
    "flex_promotions": flex_promotions,
    "expired_quotes": expired_quotes,
    "unsettled_shares": unsettled_shares,
    "stuck_stages": stuck_stages,
    "silent_workers": silent_workers,
    "expired_credit": expired_credit,
}


def sweep(leadership: Leadership | None = None) -> dict[str, int]:
    """Run every repair once, each in a transaction of its own. Returns what each found.

    With `leadership`, each transaction first proves the leader's term, so that a leader that was frozen and woke
    too late repairs nothing.
    """
    found: dict[str, int] = {}
    for name, repair in REPAIRS.items():
        try:
            with transaction() as session:
                if leadership is not None:
                    leadership.prove(session)
                found[name] = repair(session)
                if found[name]:
                    tally(session, name, found[name])
        except Exception:
            # One repair that breaks must not keep the others from their work; it is tried again in a second.
            log.exception("The repair %s broke", name)
    return found


def ring_pools() -> int:
    """Ring each pool that has eligible work, at most once per idle worker. Returns how many rings were sent."""
    with transaction() as session:
        ready = session.execute(
            select(Unit.pool, func.count())
            .where(Unit.state == "ready", (Unit.not_before.is_(None)) | (Unit.not_before <= now(session)))
            .group_by(Unit.pool)
        ).all()
        wanted = {pool: min(int(count), idle_workers(session, pool)) for pool, count in ready}
    rung = 0
    for pool, count in wanted.items():
        waiting = rings_waiting(pool)
        if waiting is None:
            continue
        rung += sum(ring(pool) for _ in range(count - waiting))
    return rung


def run_scheduler(stop: threading.Event) -> None:
    """Lead, or stand by, until `stop` is set: ring, sweep, keep the leader's lease; retention cleans beside it."""
    leadership = Leadership("scheduler")
    pause = get_settings().sweep_seconds
    cleaner = threading.Thread(
        target=run_retention, args=(stop, lambda: leadership.term is not None), name="retention", daemon=True
    )
    cleaner.start()
    while not stop.is_set():
        try:
            if leadership.take():
                ring_pools()
                sweep(leadership)
        except Exception:
            # Without its database the scheduler can only wait; it must not die of it.
            log.exception("A round of the scheduler broke")
        stop.wait(pause)
    leadership.leave()
