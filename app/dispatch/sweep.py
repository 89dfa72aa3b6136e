"""The sweeper: repairs what a crash left. It may requeue, release and ring; it never charges on a guess."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.bell import ring, rings_waiting
from app.clock import lease_now, now
from app.db import transaction
from app.dispatch.forecasts import foretell, score
from app.dispatch.leader import Leadership
from app.dispatch.lease import lose_take
from app.dispatch.mend import Patrol, mend, standing_still
from app.dispatch.retention import run_retention
from app.dispatch.roster import idle_by_pool, strike_off
from app.dispatch.tally import tally
from app.jobs.queue_tables import Take, Unit
from app.jobs.quote import expire_quotes
from app.jobs.settle import expire
from app.jobs.shares import refresh_shares, settle_share
from app.jobs.states import JobState, TakeState, UnitState
from app.jobs.tables import Job
from app.settings import get_settings
from app.wallet.lots import accounts_with_expired_lots, expire_lots

log = logging.getLogger(__name__)

BATCH = 200
# How long a repair waits for a lock. Whoever holds one for longer is frozen, and others must not wait for them.
LOCK_SECONDS = 2
# Queued jobs that are looked at in each round.
PATROL = 500
_patrol = Patrol()


def one_by_one(session: Session, ids: Iterable[str], repair: Callable[[str], object]) -> int:
    """Repair each of these, each within a savepoint. Returns how many were.

    One that breaks, or whose lock does not come, is logged and left for the next round; it keeps nobody else waiting.
    """
    repaired = 0
    for each in ids:
        try:
            with session.begin_nested():
                repaired += bool(repair(each))
        except Exception:
            log.exception("%s could not be repaired", each)
    return repaired


def lost_takes(session: Session) -> int:
    """Requeue the units of takes whose lease has run out."""
    due = session.execute(
        select(Take.id, Take.job_id)
        .where(Take.state == TakeState.RUNNING, Take.lease_until < lease_now(session))
        .order_by(Take.lease_until)
        .limit(BATCH)
    ).all()
    job_of = {row.id: row.job_id for row in due}
    return one_by_one(session, job_of, lambda take_id: lose_take(session, take_id, job_of[take_id]))


def past_deadlines(session: Session) -> int:
    """Expire queued jobs whose last moment to start has passed."""
    due = session.scalars(
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.not_after <= now(session))
        .order_by(Job.not_after)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    jobs = {job.id: job for job in due}
    return one_by_one(session, jobs, lambda job_id: expire(session, jobs[job_id]))


def flex_promotions(session: Session) -> int:
    """Serve flex jobs as standard when the last moment that their tier promises is near."""
    near = session.scalars(
        select(Job)
        .where(Job.promote_at <= now(session))
        .order_by(Job.promote_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for job in near:
        job.promote_at = None
    waiting = [job.id for job in near if job.state == JobState.QUEUED]
    session.execute(update(Unit).where(Unit.job_id.in_(waiting), Unit.klass == 2).values(klass=1))
    return len(waiting)


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
    """Mend the jobs that stand still: those that started, and some of the queue on each round."""
    found = dict.fromkeys([*standing_still(session, limit=BATCH), *_patrol.next(session, limit=PATROL)])
    return one_by_one(session, found, lambda job_id: mend(session, job_id))


def stale_shares(session: Session) -> int:
    """Bring weights and caps of waiting accounts to what their memberships and limits say now."""
    return refresh_shares(session)


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
    "stale_shares": stale_shares,
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
                session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                found[name] = repair(session)
                if found[name]:
                    tally(session, name, found[name])
        except Exception:
            # One repair that breaks must not keep the others from their work; it is tried again in a second.
            log.exception("The repair %s broke", name)
    return found


def ring_pools() -> int:
    """Ring each pool that has eligible work, at most once per idle worker. Returns how many rings were sent.

    Each of these stands for a ring that was lost, or never rung: whoever makes work ready rings by itself.
    """
    with transaction() as session:
        wanted = {pool: _ready(session, pool, idle) for pool, idle in idle_by_pool(session).items()}
    rung = 0
    for pool, count in wanted.items():
        waiting = rings_waiting(pool) if count else None
        if waiting is None:
            continue
        rung += sum(ring(pool) for _ in range(count - waiting))
    return rung


def _ready(session: Session, pool: str, limit: int) -> int:
    """Count the pool's units that need not wait, up to a limit."""
    may_start = (Unit.not_before.is_(None)) | (Unit.not_before <= now(session))
    some = select(Unit.id).where(Unit.pool == pool, Unit.state == UnitState.READY, may_start).limit(limit)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def ring_again(leadership: Leadership) -> int:
    """Ring for what nobody answers, and count it."""
    rung = ring_pools()
    if rung:
        with transaction() as session:
            leadership.prove(session)
            tally(session, "lost_rings", rung)
    return rung


def foresee(leadership: Leadership) -> None:
    """Write down what is foretold of new jobs, and hold it against what came of those that have ended."""
    with transaction() as session:
        leadership.prove(session)
        foretell(session)
        score(session)


def run_scheduler(stop: threading.Event) -> None:
    """Lead, or stand by, until `stop` is set: ring, sweep, keep the leader's lease; retention cleans beside it."""
    leadership = Leadership("scheduler")
    pause = get_settings().sweep_seconds
    cleaner = threading.Thread(
        target=run_retention, args=(stop, lambda: leadership.term is not None), name="retention", daemon=True
    )
    cleaner.start()
    while not stop.is_set():
        began = time.monotonic()
        try:
            if leadership.take():
                ring_again(leadership)
                sweep(leadership)
                foresee(leadership)
        except Exception:
            # Without its database the scheduler can only wait; it must not die of it.
            log.exception("A round of the scheduler broke")
        # The pause is between two beginnings, so that a long round does not make the next ring late.
        stop.wait(max(0.0, pause - (time.monotonic() - began)))
    leadership.leave()
