"""Queue position and ETA: when a job will probably start and end, from measured throughput."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from math import ceil
from typing import Any

from sqlalchemy import Select, case, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.clock import lease_now
from app.db import Moment
from app.dispatch.queue_snapshot import OwnQueues, Place, Work, films_waiting, work_of_others_before
from app.dispatch.tables import Throughput
from app.dispatch.throughput import PRIOR, PRIORS, estimate_seconds
from app.dispatch.worker_registry import live_workers
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.states import Stage, TakeState, UnitState, is_final
from app.jobs.tables import Job


@dataclass(frozen=True)
class Outlook:
    """Forecast of an unfinished job: its queue position, and ranges of seconds from now until it starts and ends."""

    position: int | None
    start_p50: int | None
    end_p50: int | None
    end_p90: int | None

    def eta(self) -> dict[str, int] | None:
        """Return the range as the API shows it, or None where no worker serves the pool."""
        if self.end_p50 is None or self.end_p90 is None:
            return None
        return {"start_seconds": self.start_p50 or 0, "seconds_p50": self.end_p50, "seconds_p90": self.end_p90}


def forecast(session: Session, job: Job) -> Outlook:
    """Return a job's queue position (0 when it has started) and its ETA.

    The start follows the dispatcher's own rule, run forward: what runs now must end, and ahead of this job go higher
    priorities, the account's own earlier work, and as many units of each other account as begin at a lower virtual
    time. All durations are measured, by the unit's model and resolution. The result is a range because takes differ.
    """
    return forecasts(session, [job])[job.id]


def forecasts(session: Session, jobs: Sequence[Job]) -> dict[str, Outlook]:
    """Return the outlook of each job, by id; see `forecast`.

    What waits is read from the snapshot that the scheduler refreshes about once a second, and everything is queried
    once for all jobs: a page costs little more than one job, and a long queue no more than a short one.
    """
    outlooks = {job.id: Outlook(None, None, None, None) for job in jobs}
    unfinished = [job for job in jobs if not is_final(job.state)]
    if unfinished:
        facts = _SharedFacts(session, unfinished)
        outlooks |= {job.id: _outlook(job, facts) for job in unfinished}
    return outlooks


def _outlook(job: Job, facts: "_SharedFacts") -> Outlook:
    key = facts.sort_keys.get(job.id)
    ahead, own_ahead = facts.ahead.get(job.id, (Work(), Work()))
    workers = facts.workers(job.pool)
    position = 0 if job.started_at else ahead.jobs
    if not workers:
        return Outlook(position, None, None, None)
    start = [_ZERO, _ZERO] if key is None else _start(facts.busy(job.pool), ahead, workers)
    own, shots = facts.own_work(job)
    parallel = min(workers, max(1, shots), key.concurrency if key else workers)
    if key is not None:
        # The account's own older work runs on no more workers than its concurrency limit allows.
        own_start = _start(facts.busy_for(job), own_ahead, min(workers, key.concurrency))
        start = [max(pair) for pair in zip(start, own_start, strict=True)]
    ends = [
        begin + rendering / parallel + finishing
        for begin, rendering, finishing in zip(start, own, facts.finish(job), strict=True)
    ]
    start_p50 = 0 if job.started_at else ceil(start[0])
    return Outlook(position, start_p50, ceil(ends[0]), ceil(max(ends)))


_ZERO = Decimal(0)


def _start(busy: "_Busy", ahead: Work, workers: int) -> list[Decimal]:
    """Return the p50 and p90 seconds until one of `workers` is free for the job behind `ahead`."""
    if not ahead.jobs and busy.takes < workers:
        return [_ZERO, _ZERO]
    return [(busy.p50 + ahead.p50) / workers, (busy.p90 + ahead.p90) / workers]


@dataclass(frozen=True)
class _SortKey:
    """The sort key of a waiting job in the fair order: priority, its account's virtual time, and age."""

    priority: int
    queued_at: datetime
    vtime: Decimal
    weight: Decimal
    concurrency: int


@dataclass(frozen=True)
class _Busy:
    """Running takes, and the seconds that are left of them."""

    takes: int
    p50: Decimal
    p90: Decimal


_IDLE = _Busy(0, _ZERO, _ZERO)


# Seconds of a unit by its measured throughput; where none is known, the prior of app.dispatch.throughput.
_P50, _P90 = (
    Unit.frames
    * func.coalesce(measured, case(*((Unit.model == name, each[at]) for name, each in PRIORS.items()), else_=PRIOR[at]))
    for at, measured in enumerate((Throughput.p50, Throughput.p90))
)


def _with_throughput(*columns: Any) -> Select[Any]:
    """Select units joined with their measured throughput."""
    shape = Job.spec["resolution"].astext
    matches = (Throughput.model == Unit.model) & (Throughput.kind == Unit.kind) & (Throughput.shape == shape)
    return select(*columns).select_from(Unit).join(Job, Job.id == Unit.job_id).outerjoin(Throughput, matches)


def _ahead_of(session: Session, jobs: Sequence[Job], keys: Mapping[str, _SortKey]) -> dict[str, tuple[Work, Work]]:
    """Return the work that will go before each waiting job, by id: all of it, and the part of its own account.

    Of its own account that is what is older; of other accounts all of a higher priority, and their share of its own.
    """
    waiting = [job for job in jobs if job.id in keys]
    queues = OwnQueues(session, [job.pool for job in waiting], [job.account_id for job in waiting])
    own: dict[str, Work] = {}
    places: dict[str, Place] = {}
    for job in waiting:
        key = keys[job.id]
        own[job.id] = queues.before(job.pool, job.account_id, key.priority, key.queued_at)
        turn = key.vtime + own[job.id].p50 / key.weight  # the virtual time at which this job is next
        places[job.id] = Place(job.pool, key.priority, job.account_id, key.queued_at, turn)
    others = work_of_others_before(session, places)
    return {job_id: (work + others.get(job_id, Work()), work) for job_id, work in own.items()}


class _SharedFacts:
    """Facts that the forecasts of several jobs share, queried once however many jobs there are."""

    def __init__(self, session: Session, jobs: Sequence[Job]) -> None:
        ids = [job.id for job in jobs]
        self.sort_keys = _sort_keys(session, ids)
        self.ahead = _ahead_of(session, jobs, self.sort_keys) if self.sort_keys else {}
        self._rest = _rest(session, ids)
        self._running = _running(session, Take.job_id, Take.job_id.in_(ids), Take.kind == "segment")
        self._busy = _running(session, Take.pool, Take.pool.in_({job.pool for job in jobs}))
        accounts = {job.account_id for job in jobs}
        # An account's limit counts its segments in all pools, those of test orders apart, as a claim counts them.
        self._of_accounts = {
            test: _running(
                session,
                Take.account_id,
                Take.account_id.in_(accounts),
                Take.kind == "segment",
                (Take.pool == TEST_POOL).is_(test),
            )
            for test in {job.pool == TEST_POOL for job in jobs}
        }
        self.workers = cache(lambda pool: live_workers(session, pool))
        self._films = cache(lambda: films_waiting(session, FINISH_POOL))
        finishing = [job.id for job in jobs if job.stage == Stage.FINISHING]
        self._films_ready = _films_ready(session, finishing) if finishing else set()
        self._joins = cache(lambda shape, frames: estimate_seconds(session, FINISH_POOL, "finish", shape, frames))

    def busy(self, pool: str) -> _Busy:
        """Return the takes that run in a pool, and the seconds left of them."""
        return self._busy.get(pool, _IDLE)

    def busy_for(self, job: Job) -> _Busy:
        """Return the segments that run for the job's account, and the seconds left of those of its other jobs."""
        theirs = self._of_accounts[job.pool == TEST_POOL].get(job.account_id, _IDLE)
        mine = self._running.get(job.id, _IDLE)
        return _Busy(theirs.takes, theirs.p50 - mine.p50, theirs.p90 - mine.p90)

    def own_work(self, job: Job) -> tuple[list[Decimal], int]:
        """Return the p50 and p90 seconds of the job's remaining segments, and how many can run in parallel."""
        p50, p90, shots = self._rest.get(job.id, (_ZERO, _ZERO, 0))
        running = self._running.get(job.id, _IDLE)
        return [p50 + running.p50, p90 + running.p90], shots

    def finish(self, job: Job) -> list[Decimal]:
        """Return the p50 and p90 seconds from the last segment to the end: waiting films first, then this one."""
        own = self._joins(str(job.spec["resolution"]), int(job.spec["frames"]))
        waiting = self._films()
        if job.id in self._films_ready:
            # It is itself among the films that wait.
            waiting = [max(_ZERO, films - own_film) for films, own_film in zip(waiting, own, strict=True)]
        workers = max(1, self.workers(FINISH_POOL))
        return [own_film + others / workers for own_film, others in zip(own, waiting, strict=True)]


def _sort_keys(session: Session, ids: Sequence[str]) -> dict[str, _SortKey]:
    """Return the sort key of each job's first ready unit; a job without one runs, or is being finished."""
    rows = session.execute(
        select(Unit.job_id, Unit.priority, Unit.queued_at, Share.vtime, Share.weight, Share.concurrency)
        .ext(distinct_on(Unit.job_id))
        .join(Job, (Job.id == Unit.job_id) & (Job.pool == Unit.pool))
        .outerjoin(Share, (Share.pool == Unit.pool) & (Share.account_id == Unit.account_id))
        .where(Unit.job_id.in_(ids), Unit.state == UnitState.READY)
        .order_by(Unit.job_id, Unit.priority, Unit.queued_at)
    )
    return {row[0]: _SortKey(row[1], row[2], row[3] or _ZERO, row[4] or Decimal(1), row[5] or 1) for row in rows}


def _rest(session: Session, ids: Sequence[str]) -> dict[str, tuple[Decimal, Decimal, int]]:
    """Return for each job the p50 and p90 seconds of the segments that have not started, and its open shots.

    A shot is open while a segment of it waits or runs; its segments render one after another.
    """
    waits = Unit.state.in_((UnitState.BLOCKED, UnitState.READY))
    lengths = [func.coalesce(func.sum(length).filter(waits), 0) for length in (_P50, _P90)]
    rows = session.execute(
        _with_throughput(Unit.job_id, *lengths, func.count(Unit.shot.distinct()))
        .where(Unit.job_id.in_(ids), Unit.kind == "segment", waits | (Unit.state == UnitState.RUNNING))
        .group_by(Unit.job_id)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _running(session: Session, by: Any, *which: Any) -> dict[str, _Busy]:
    """Return the running takes and the seconds left of them (never below 0), grouped by a column."""
    elapsed = func.extract("epoch", cast(lease_now(session), Moment) - Take.started_at)
    left = [func.sum(func.greatest(length - elapsed, 0)) for length in (_P50, _P90)]
    rows = session.execute(
        _with_throughput(by, func.count(), *left)
        .join(Take, Take.unit_id == Unit.id)
        .where(Take.state == TakeState.RUNNING, *which)
        .group_by(by)
    )
    return {row[0]: _Busy(row[1], Decimal(row[2]), Decimal(row[3])) for row in rows}


def _films_ready(session: Session, ids: Sequence[str]) -> set[str]:
    """Return which of these jobs wait to be finished."""
    ready = (Unit.job_id.in_(ids), Unit.kind == "finish", Unit.state == UnitState.READY)
    return set(session.scalars(select(Unit.job_id).where(*ready)))
