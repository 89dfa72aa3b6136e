"""The scheduler: periodic repairs after crashes. It may requeue, release and wake; it never charges on a guess."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import is_lock_timeout, transaction
from app.dispatch.eta_accuracy import record_eta_forecasts, score_eta_forecasts
from app.dispatch.leader import Leadership, LeadershipLost
from app.dispatch.lease import lose_take
from app.dispatch.lock_patience import LockPatience
from app.dispatch.maintenance import count_repairs
from app.dispatch.pod_costs import PodCosts, run_pod_costs
from app.dispatch.queue_snapshot import SnapshotTimer, refresh_queue_snapshot
from app.dispatch.reconcile import StalledJobScan, reconcile_job, stalled_jobs
from app.dispatch.retention import run_retention
from app.dispatch.worker_registry import idle_by_pool, mark_gone, silent_workers
from app.jobs.cancel import request_cancel
from app.jobs.deadlines import is_overdue
from app.jobs.fair_share import lock_shares, refresh_share, settle_share, stale_shares
from app.jobs.low_balance import publish_low_balance
from app.jobs.open_quotes import expire_quote, quotes_past_expiry
from app.jobs.plan import CLASS_OF_TIER, FINISH_POOL, TEST_POOL
from app.jobs.queue_tables import Take, Unit
from app.jobs.review import decide_by_policy, overdue_reviews
from app.jobs.settle import expire
from app.jobs.states import JobState, Stage, TakeState, is_final
from app.jobs.tables import Job
from app.liveness import LIVENESS
from app.settings import get_settings
from app.sql_statements import sql_file
from app.wakeups import send_wakeup, wakeups_waiting
from app.wallet.lots import accounts_with_expired_lots, expire_lots

log = logging.getLogger(__name__)

_CLAIMABLE = sql_file("app.dispatch", "claimable.sql")

# Repairs of one kind per round; a round starts each second.
BATCH = 200
# How long the repairs of one round wait for locks, all together. A process that holds one for longer is frozen; with
# hundreds of its rows, a wait for each would outlast the leader's lease. What is locked is tried again in a second.
LOCK_SECONDS = 2.0
# Queued jobs that are scanned in each round.
SCAN_BATCH = 500
_stalled_job_scan = StalledJobScan()


@dataclass(frozen=True)
class Repair:
    """One kind of periodic repair, after a crash or when a time has come.

    `find` returns the items to repair and writes nothing; `repair` repairs one item, in a transaction of its own, and
    returns whether there still was anything to do. So the scheduler never locks the rows of two customers at once,
    which their own orders lock in another order, and one item that fails does not block the others.
    """

    find: Callable[[Session], Sequence[Any]]
    repair: Callable[[Session, Any], bool]


def _lost_takes(session: Session) -> Sequence[Any]:
    query = select(Take.id, Take.job_id).where(Take.state == TakeState.RUNNING, Take.lease_until < lease_now(session))
    return session.execute(query.order_by(Take.lease_until).limit(BATCH)).all()


def _lose(session: Session, take: tuple[str, str]) -> bool:
    """Requeue the unit of a take whose lease has expired."""
    return lose_take(session, *take)


def _past_deadlines(session: Session) -> Sequence[str]:
    query = select(Job.id).where(Job.state == JobState.QUEUED, Job.not_after <= now(session))
    return session.scalars(query.order_by(Job.not_after).limit(BATCH)).all()


def _expire(session: Session, job_id: str) -> bool:
    """Expire a queued job whose latest start (`not_after`) has passed."""
    job = _lock(session, job_id)
    if job is None or not is_overdue(session, job.state, job.not_after):
        return False
    expire(session, job)
    return True


def _past_cancel_times(session: Session) -> Sequence[str]:
    is_open = Job.state.in_((JobState.QUEUED, JobState.IN_PROGRESS))
    query = select(Job.id).where(is_open, Job.cancel_at <= now(session), Job.cancel_requested_at.is_(None))
    return session.scalars(query.where(Job.stage != Stage.FINISHING).order_by(Job.cancel_at).limit(BATCH)).all()


def _cancel(session: Session, job_id: str) -> bool:
    """Cancel a job that is not finished at the time that its order named. One that is being finished goes on."""
    job = _lock(session, job_id)
    if job is None or is_final(job.state) or job.cancel_requested_at is not None or job.stage == Stage.FINISHING:
        return False
    request_cancel(session, job)
    return True


def _flex_near_deadline(session: Session) -> Sequence[str]:
    query = select(Job.id).where(Job.promote_at <= now(session))
    return session.scalars(query.order_by(Job.promote_at).limit(BATCH)).all()


def _promote(session: Session, job_id: str) -> bool:
    """Give a flex job standard priority: the latest start that its tier promises is near."""
    job = _lock(session, job_id)
    if job is None or job.promote_at is None or job.promote_at > now(session):
        return False
    job.promote_at = None
    if job.state != JobState.QUEUED:
        return False
    lock_shares(session, job.account_id, [job.pool])
    flex, standard = CLASS_OF_TIER["flex"], CLASS_OF_TIER["standard"]
    session.execute(update(Unit).where(Unit.job_id == job.id, Unit.priority == flex).values(priority=standard))
    return True


def _unsettled_takes(session: Session) -> Sequence[str]:
    query = select(Take.id).where(Take.state != TakeState.RUNNING, ~Take.share_settled)
    return session.scalars(query.order_by(Take.ended_at).limit(BATCH)).all()


def _settle(session: Session, take_id: str) -> bool:
    """Correct the share of a take that was ended not by its worker but by a cancel, or by the end of its job."""
    take = session.get(Take, take_id, with_for_update=True, populate_existing=True)
    if take is None or take.share_settled:
        return False
    settle_share(session, take, take.gpu_seconds)
    return True


def _stalled_jobs(session: Session) -> Sequence[str]:
    job_ids = [*stalled_jobs(session, limit=BATCH), *_stalled_job_scan.next(session, limit=SCAN_BATCH)]
    return list(dict.fromkeys(job_ids))


def _expired_credit(session: Session) -> Sequence[str]:
    return accounts_with_expired_lots(session, limit=BATCH)


def _expire_credit(session: Session, account_id: str) -> bool:
    """Book the rest of credit lots that have expired. They could not be spent since the moment of expiry."""
    lost = expire_lots(session, account_id)
    publish_low_balance(session, account_id)
    return bool(lost)


def _lock(session: Session, job_id: str) -> Job | None:
    return session.get(Job, job_id, with_for_update=True, populate_existing=True)


REPAIRS: dict[str, Repair] = {
    "lost_takes": Repair(_lost_takes, _lose),
    "past_deadlines": Repair(_past_deadlines, _expire),
    "past_cancel_times": Repair(_past_cancel_times, _cancel),
    "overdue_reviews": Repair(lambda session: overdue_reviews(session, limit=BATCH), decide_by_policy),
    "flex_promotions": Repair(_flex_near_deadline, _promote),
    "expired_quotes": Repair(lambda session: quotes_past_expiry(session, limit=BATCH), expire_quote),
    "unsettled_shares": Repair(_unsettled_takes, _settle),
    "stuck_stages": Repair(_stalled_jobs, reconcile_job),
    "stale_shares": Repair(stale_shares, refresh_share),
    "silent_workers": Repair(silent_workers, mark_gone),
    "expired_credit": Repair(_expired_credit, _expire_credit),
}


def run_round(leadership: Leadership | None = None) -> dict[str, int]:
    """Run every repair once. Returns how many items each repaired.

    With `leadership`, each transaction that writes first verifies the leader's term, so that a leader that was frozen
    and resumed too late repairs nothing; and a long round renews the lease between repairs.
    """
    counts = dict.fromkeys(REPAIRS, 0)
    patience = LockPatience(LOCK_SECONDS)
    for name, repair in REPAIRS.items():
        LIVENESS.record_step()
        try:
            with transaction() as session:
                items = repair.find(session)
        except Exception:
            log.exception("The repair %s could not find its items", name)
            continue
        locked = 0
        for item in items:
            LIVENESS.record_step()
            try:
                if leadership is not None and not leadership.keep():
                    return counts
                counts[name] += _run_repair(name, repair, item, leadership, patience)
            except LeadershipLost:
                return counts
            except Exception as error:
                if is_lock_timeout(error):
                    locked += 1
                else:
                    # One item that fails must not block the others; it is retried in a second.
                    log.exception("The repair %s failed for %s", name, item)
        if locked:
            log.warning("The repair %s left out %d items that other transactions hold", name, locked)
    return counts


def _run_repair(name: str, repair: Repair, item: Any, leadership: Leadership | None, patience: LockPatience) -> int:
    """Repair one item in a transaction of its own. Returns 1 where there was anything to do, else 0."""
    with patience.counted(), transaction() as session:
        session.execute(text(f"SET LOCAL lock_timeout = '{patience.milliseconds()}ms'"))
        if leadership is not None:
            leadership.verify(session)
        if not repair.repair(session, item):
            return 0
        count_repairs(session, name, 1)
        return 1


def wake_pools() -> int:
    """Wake each pool that has eligible work, at most once per idle worker. Returns how many wake-ups were sent.

    Each of these replaces a wake-up that was lost or never sent: whoever makes work ready sends one by itself.
    """
    with transaction() as session:
        ready = {pool: _claimable(session, pool, idle) for pool, idle in idle_by_pool(session).items()}
    wakeups = 0
    for pool, count in ready.items():
        waiting = wakeups_waiting(pool) if count else None
        if waiting is None:
            continue
        wakeups += sum(send_wakeup(pool) for _ in range(count - waiting))
    return wakeups


def _claimable(session: Session, pool: str, limit: int) -> int:
    """Count the pool's units that may start now, within the limits of their accounts, up to a limit."""
    inputs = {"pool": pool, "limit": limit, "finish_pool": FINISH_POOL, "test_pool": TEST_POOL, "now": now(session)}
    return int(_CLAIMABLE.run(session, inputs).one().units)


def resend_lost_wakeups(leadership: Leadership) -> int:
    """Replace wake-ups that were lost, and count them."""
    count = wake_pools()
    if count:
        with transaction() as session:
            leadership.verify(session)
            count_repairs(session, "lost_rings", count)
    return count


def refresh_snapshot(leadership: Leadership) -> None:
    """Refresh the snapshot of the queue from which forecasts are answered."""
    with transaction() as session:
        leadership.verify(session)
        refresh_queue_snapshot(session)


def record_forecasts(leadership: Leadership) -> None:
    """Record the ETA of new jobs, and score the ETA of those that have ended."""
    with transaction() as session:
        leadership.verify(session)
        record_eta_forecasts(session)
        score_eta_forecasts(session)


def run_scheduler(stop: threading.Event, costs: PodCosts | None = None) -> None:
    """Lead, or stand by, until `stop` is set: send wake-ups, run repairs, renew the leader's lease, run retention.

    With `costs`, what ending each worker's pod costs is written to Kubernetes.
    """
    leadership = Leadership("scheduler")
    pause, snapshots = get_settings().sweep_seconds, SnapshotTimer()
    besides: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(run_retention, ())]
    if costs is not None:
        besides.append((run_pod_costs, (costs,)))
    for target, more in besides:
        arguments = (stop, lambda: leadership.term is not None, *more)
        threading.Thread(target=target, args=arguments, name=target.__name__, daemon=True).start()
    while not stop.is_set():
        began = time.monotonic()
        LIVENESS.record_step()
        try:
            if leadership.acquire():
                resend_lost_wakeups(leadership)
                run_round(leadership)
                snapshots.run(lambda: refresh_snapshot(leadership))
                record_forecasts(leadership)
        except Exception:
            # Without its database the scheduler can only wait; it must not end.
            log.exception("A round of the scheduler failed")
        # The pause counts from the start of a round, so that a long round does not delay the next wake-up.
        stop.wait(max(0.0, pause - (time.monotonic() - began)))
    leadership.leave()
