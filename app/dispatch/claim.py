"""Claim the next unit of work: pick it fairly, charge the account's share, and lease it, all in one transaction.

Claims of one pool run one after the other, so a claim never waits for a row that another transaction holds: that
process may be frozen, and the pool would stop with it. Such an account is left out, and the next choice is taken.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from app.clock import clock_inputs, lease_now, now, read_again, remember_now
from app.db import after_commit, is_lock_timeout, new_id
from app.dispatch.choice import Choice
from app.dispatch.claim_locks import lock_free_rows, lock_rows
from app.dispatch.start_job import start_job
from app.dispatch.throughput import estimate_use
from app.dispatch.worker_registry import Claimant
from app.jobs.deadlines import is_overdue
from app.jobs.plan import TEST_POOL
from app.jobs.queue_tables import Pool, Share, Unit, Worker
from app.jobs.settle import expire
from app.jobs.states import JobState, UnitState, is_final
from app.jobs.tables import Job
from app.metrics import CLAIMS
from app.settings import get_settings
from app.sql_statements import sql_file
from app.trace import trace_id_of
from app.wakeups import wake_after_commit

_BEGIN = sql_file("app.dispatch", "claim_begin.sql")
_CHECK = sql_file("app.dispatch", "claim_check.sql")
_WRITE = sql_file("app.dispatch", "claim_write.sql")
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
    DRAINING = auto()  # the worker may claim nothing
    CORRECTED = auto()  # the units that were chosen could not start and were corrected
    EXPIRED = auto()  # the chosen unit's job was past its deadline and has ended


def claim(session: Session, worker_id: str, pools: list[str], resident_model: str | None = None) -> Claim | None:
    """Lease the next unit that fits the worker's GPU, of the first pool that has one; `pools` are tried in order.

    Returns None when no pool has eligible work, when the worker is draining, or when the chosen job expired instead;
    then its pool is woken again. `resident_model` is the model already loaded on the worker's GPU: a unit for it may
    jump the fair order by at most the affinity window (settings.affinity_seconds, virtual GPU-seconds).
    """
    for pool in pools[:-1]:
        # The lock of a pool without work is released before the next pool's is taken, so that workers may name their
        # pools in any order.
        with session.begin_nested() as point:
            lease = _claim_from(session, worker_id, pool, resident_model)
            if lease in (NoLease.UNCHANGED, NoLease.DRAINING):
                point.rollback()
        if isinstance(lease, Claim):
            return lease
        if lease in (NoLease.EXPIRED, NoLease.DRAINING):
            return None
    # The end of the transaction releases the last one's.
    last = _claim_from(session, worker_id, pools[-1], resident_model) if pools else None
    return last if isinstance(last, Claim) else None


def _claim_from(session: Session, worker_id: str, pool: str, resident_model: str | None) -> Claim | NoLease:
    # One claim per pool at a time, so that two workers cannot both see the same head of the queue.
    inputs = {"lock": f"claim:{pool}", "worker_id": worker_id, "pool": pool}
    row = _BEGIN.run(session, inputs | clock_inputs(session)).one()
    remember_now(session, row.now)
    if row.drain_requested:
        return NoLease.DRAINING
    if not row.has_ready:
        return NoLease.UNCHANGED
    by = Choice(worker_id, Claimant(row.memory_mb, row.features, row.name or ""), resident_model)
    moment = now(session)
    excluded: dict[str, str] = {}  # account → its unit that was chosen first
    no_lease = NoLease.UNCHANGED
    for _ in range(CHOICES_MAX):
        choice = by.run(session, pool, moment, excluded)
        if choice is None:
            break
        rows = lock_free_rows(session, choice.unit_id)
        if rows is None:
            excluded[choice.account_id] = choice.unit_id
        elif _expire_overdue(session, rows):
            return NoLease.EXPIRED
        elif (facts := _check(session, rows)) is not None:
            return _lease(session, by, rows, choice, facts, has_more=choice.has_more or bool(excluded))
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
            lock_rows(session, unit_id)
            session.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        return None
    read_again(session)
    choice = by.run(session, pool, now(session))
    if choice is None or choice.unit_id != unit_id:
        return None
    rows = lock_free_rows(session, unit_id)
    if rows is None or is_overdue(session, rows.job_state, rows.not_after):
        return None
    facts = _check(session, rows)
    return None if facts is None else _lease(session, by, rows, choice, facts, has_more=choice.has_more)


def _expire_overdue(session: Session, rows: Any) -> bool:
    """Expire the job of a chosen unit when its deadline has passed; return whether this was so.

    The end of a job locks the wallet. The claim ends with it, since it must lock no share or lane after that
    (app.lock_order); the pool is woken for the next claim.
    """
    if rows.unit_state != UnitState.READY or not is_overdue(session, rows.job_state, rows.not_after):
        return False
    expire(session, session.get_one(Job, rows.job_id, populate_existing=True))
    wake_after_commit(session, rows.pool)
    return True


def _check(session: Session, rows: Any) -> Any:
    """Return the row of claim_check.sql where a chosen unit may be leased, else None.

    What prevents it is corrected, or the unit would be chosen again. The clock is read again, after the last lock: a
    lease that counts from before one that was waited for would have used up part of it.
    """
    if rows.unit_state != UnitState.READY:
        return None
    read_again(session)
    names = ("unit_id", "account_id", "pool", "kind", "model", "resolution")
    inputs = {name: getattr(rows, name) for name in names}
    facts = _CHECK.run(session, inputs | {"test_pool": TEST_POOL} | clock_inputs(session)).one()
    remember_now(session, facts.now)
    if is_final(rows.job_state):
        _correct(session, rows.unit_id, UnitState.DROPPED)
    elif facts.has_take:
        _correct(session, rows.unit_id, UnitState.RUNNING)
    elif rows.kind != "segment" or facts.running < rows.concurrency:
        return facts
    return None


def _correct(session: Session, unit_id: str, state: UnitState) -> None:
    session.execute(update(Unit).where(Unit.id == unit_id).values(state=state))


def _lease(session: Session, by: Choice, rows: Any, choice: Any, facts: Any, *, has_more: bool) -> Claim:
    # The rows of claim_lock.sql, claim.sql and claim_check.sql; `has_more`: there is something to claim for others too.
    moment = lease_now(session)
    gpu, until = by.gpu_class(rows.pool), moment + timedelta(seconds=get_settings().lease_seconds)
    names = ("unit_id", "job_id", "account_id", "pool", "model", "kind")
    inputs = {name: getattr(rows, name) for name in names}
    inputs |= {"take_id": new_id("take"), "worker_id": by.worker_id, "gpu": gpu, "now": moment, "lease_until": until}
    inputs |= {"charged": estimate_use(rows.estimate, rows.frames, facts.pace)}
    inputs |= {"vclock": choice.vclock, "vmin": choice.vmin, "jumps": choice.jumps, "has_more": has_more}
    take = _WRITE.run(session, inputs).one()
    _forget(session, rows, by.worker_id)
    if rows.job_state == JobState.QUEUED:
        start_job(session, rows.job_id, rows.pool)
    # One wake-up wakes one worker, so a worker that leaves work in the queue wakes the next.
    if take.wakes:
        wake_after_commit(session, rows.pool)
    after_commit(session, CLAIMS.labels(rows.pool, rows.kind).inc)
    return Claim(
        take_id=inputs["take_id"],
        fence=take.fence,
        unit_id=rows.unit_id,
        job_id=rows.job_id,
        kind=rows.kind,
        pool=rows.pool,
        model=rows.model,
        lease_until=until,
        account_id=rows.account_id,
        worker_id=by.worker_id,
        traceparent=rows.traceparent,
        request_id=rows.request_id,
    )


def _forget(session: Session, rows: Any, worker_id: str) -> None:
    """Have objects that the session has of rows that were written read these again when they are used."""
    keys = ((Unit, rows.unit_id), (Share, (rows.pool, rows.account_id)), (Pool, rows.pool), (Worker, worker_id))
    for row_type, key in keys:
        row = session.identity_map.get(identity_key(row_type, key))
        if row is not None:
            session.expire(row)
