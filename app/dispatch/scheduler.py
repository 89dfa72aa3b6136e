"""The sweeper: repairs what a crash left. It may requeue, release and ring; it never charges on a guess."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import transaction
from app.dispatch.eta_accuracy import record_eta_forecasts, score_eta_forecasts
from app.dispatch.leader import Leadership, LeadershipLost
from app.dispatch.lease import lose_take
from app.dispatch.maintenance import count_repairs
from app.dispatch.reconcile import StalledJobScan, reconcile_job, stalled_jobs
from app.dispatch.retention import run_retention
from app.dispatch.worker_registry import idle_by_pool, mark_gone, silent_workers
from app.jobs.fair_share import refresh_share, settle_share, stale_shares
from app.jobs.low_balance import publish_low_balance
from app.jobs.plan import CLASS_OF_TIER
from app.jobs.queue_tables import Take, Unit
from app.jobs.quote import expire_quote, quotes_past_expiry
from app.jobs.settle import expire
from app.jobs.states import JobState, TakeState, UnitState
from app.jobs.tables import Job
from app.settings import get_settings
from app.wakeups import send_wakeup, wakeups_waiting
from app.wallet.lots import accounts_with_expired_lots, expire_lots

log = logging.getLogger(__name__)

# How much of one kind is mended in a round; a round comes each second.
BATCH = 200
# How long a repair waits for a lock. Whoever holds one for longer is frozen, and others must not wait for them.
LOCK_SECONDS = 2
# Queued jobs that are looked at in each round.
PATROL = 500
_patrol = StalledJobScan()


@dataclass(frozen=True)
class Repair:
    """Something that a crash, or time, leaves to be done.

    `find` names what there is to do and writes nothing; `mend` does one of them, in a transaction of its own, and
    returns whether there still was anything to do. So a sweeper never holds the rows of two customers at once, which
    their own orders take in another order, and one row that cannot be mended keeps no other from being mended.
    """

    find: Callable[[Session], Sequence[Any]]
    mend: Callable[[Session, Any], bool]


def _lost_takes(session: Session) -> Sequence[Any]:
    query = select(Take.id, Take.job_id).where(Take.state == TakeState.RUNNING, Take.lease_until < lease_now(session))
    return session.execute(query.order_by(Take.lease_until).limit(BATCH)).all()


def _lose(session: Session, take: tuple[str, str]) -> bool:
    """Requeue the unit of a take whose lease has run out."""
    return lose_take(session, *take)


def _past_deadlines(session: Session) -> Sequence[str]:
    query = select(Job.id).where(Job.state == JobState.QUEUED, Job.not_after <= now(session))
    return session.scalars(query.order_by(Job.not_after).limit(BATCH)).all()


def _expire(session: Session, job_id: str) -> bool:
    """Expire a queued job whose last moment to start has passed."""
    job = _lock(session, job_id)
    if job is None or job.state != JobState.QUEUED or job.not_after is None or job.not_after > now(session):
        return False
    expire(session, job)
    return True


def _flex_near_deadline(session: Session) -> Sequence[str]:
    query = select(Job.id).where(Job.promote_at <= now(session))
    return session.scalars(query.order_by(Job.promote_at).limit(BATCH)).all()


def _promote(session: Session, job_id: str) -> bool:
    """Serve a flex job as standard: the last moment that its tier promises is near."""
    job = _lock(session, job_id)
    if job is None or job.promote_at is None or job.promote_at > now(session):
        return False
    job.promote_at = None
    if job.state != JobState.QUEUED:
        return False
    flex, standard = CLASS_OF_TIER["flex"], CLASS_OF_TIER["standard"]
    session.execute(update(Unit).where(Unit.job_id == job.id, Unit.klass == flex).values(klass=standard))
    return True


def _unsettled_takes(session: Session) -> Sequence[str]:
    query = select(Take.id).where(Take.state != TakeState.RUNNING, Take.share_settled.is_(False))
    return session.scalars(query.order_by(Take.ended_at).limit(BATCH)).all()


def _settle(session: Session, take_id: str) -> bool:
    """Correct the share of a take that ended without its worker: by a cancel, or by the end of its job."""
    take = session.get(Take, take_id, with_for_update=True, populate_existing=True)
    if take is None or take.share_settled:
        return False
    settle_share(session, take, take.gpu_seconds)
    return True


def _standing_still(session: Session) -> Sequence[str]:
    found = [*stalled_jobs(session, limit=BATCH), *_patrol.next(session, limit=PATROL)]
    return list(dict.fromkeys(found))


def _expired_credit(session: Session) -> Sequence[str]:
    return accounts_with_expired_lots(session, limit=BATCH)


def _book_expiry(session: Session, account_id: str) -> bool:
    """Book what is left in credit lots that have expired. Spending them was refused from their last moment on."""
    lost = expire_lots(session, account_id)
    publish_low_balance(session, account_id)
    return bool(lost)


def _lock(session: Session, job_id: str) -> Job | None:
    return session.get(Job, job_id, with_for_update=True, populate_existing=True)


REPAIRS: dict[str, Repair] = {
    "lost_takes": Repair(_lost_takes, _lose),
    "past_deadlines": Repair(_past_deadlines, _expire),
    "flex_promotions": Repair(_flex_near_deadline, _promote),
    "expired_quotes": Repair(lambda session: quotes_past_expiry(session, limit=BATCH), expire_quote),
    "unsettled_shares": Repair(_unsettled_takes, _settle),
    "stuck_stages": Repair(_standing_still, reconcile_job),
    "stale_shares": Repair(stale_shares, refresh_share),
    "silent_workers": Repair(silent_workers, mark_gone),
    "expired_credit": Repair(_expired_credit, _book_expiry),
}


def run_round(leadership: Leadership | None = None) -> dict[str, int]:
    """Run every repair once. Returns how often each had something to do.

    With `leadership`, each transaction that writes first proves the leader's term, so that a leader that was frozen
    and woke too late repairs nothing.
    """
    found = dict.fromkeys(REPAIRS, 0)
    for name, repair in REPAIRS.items():
        try:
            with transaction() as session:
                due = repair.find(session)
        except Exception:
            log.exception("The repair %s cannot see what there is to do", name)
            continue
        for each in due:
            try:
                with transaction() as session:
                    if leadership is not None:
                        leadership.prove(session)
                    session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
                    if repair.mend(session, each):
                        count_repairs(session, name, 1)
                        found[name] += 1
            except LeadershipLost:
                return found
            except Exception:
                # One row that breaks must not keep the others from being mended; it is tried again in a second.
                log.exception("The repair %s broke at %s", name, each)
    return found


def wake_pools() -> int:
    """Ring each pool that has eligible work, at most once per idle worker. Returns how many rings were sent.

    Each of these stands for a ring that was lost, or never rung: whoever makes work ready rings by itself.
    """
    with transaction() as session:
        wanted = {pool: _ready(session, pool, idle) for pool, idle in idle_by_pool(session).items()}
    rung = 0
    for pool, count in wanted.items():
        waiting = wakeups_waiting(pool) if count else None
        if waiting is None:
            continue
        rung += sum(send_wakeup(pool) for _ in range(count - waiting))
    return rung


def _ready(session: Session, pool: str, limit: int) -> int:
    """Count the pool's units that need not wait, up to a limit."""
    may_start = (Unit.not_before.is_(None)) | (Unit.not_before <= now(session))
    some = select(Unit.id).where(Unit.pool == pool, Unit.state == UnitState.READY, may_start).limit(limit)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def wake_pool_again(leadership: Leadership) -> int:
    """Ring for what nobody answers, and count it."""
    rung = wake_pools()
    if rung:
        with transaction() as session:
            leadership.prove(session)
            count_repairs(session, "lost_rings", rung)
    return rung


def record_forecasts(leadership: Leadership) -> None:
    """Write down what is foretold of new jobs, and hold it against what came of those that have ended."""
    with transaction() as session:
        leadership.prove(session)
        record_eta_forecasts(session)
        score_eta_forecasts(session)


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
                wake_pool_again(leadership)
                run_round(leadership)
                record_forecasts(leadership)
        except Exception:
            # Without its database the scheduler can only wait; it must not die of it.
            log.exception("A round of the scheduler broke")
        # The pause is between two beginnings, so that a long round does not make the next ring late.
        stop.wait(max(0.0, pause - (time.monotonic() - began)))
    leadership.leave()


log = logging.getLogger(__name__)
