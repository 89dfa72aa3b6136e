"""The honest queue: where a job stands and when it will probably start and end, from measured paces."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from math import ceil
from typing import Any

from sqlalchemy import Select, cast, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.clock import lease_now
from app.db import Moment
from app.dispatch.tables import Throughput
from app.dispatch.throughput import estimate_seconds
from app.dispatch.worker_registry import live_workers
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.states import Stage, TakeState, UnitState, is_final
from app.jobs.tables import Job


@dataclass(frozen=True)
class Outlook:
    """What can be said of an unfinished job: its place, and a range of seconds from now until it ends."""

    position: int | None
    start_p50: int | None
    end_p50: int | None
    end_p90: int | None

    def eta(self) -> dict[str, int] | None:
        """Return the range as the doors show it, or None where no worker serves the pool."""
        if self.end_p50 is None or self.end_p90 is None:
            return None
        return {"start_seconds": self.start_p50 or 0, "seconds_p50": self.end_p50, "seconds_p90": self.end_p90}


def forecast(session: Session, job: Job) -> Outlook:
    """Return a job's place in the queue (0 when it has started) and its ETA.

    The start is told by the dispatcher's own rule, run forward: what runs now must end, and before this job go better
    classes, the account's own earlier work, and of each rival as many units as begin at a lesser virtual time. All
    lengths are measured ones, of each unit's model and shape. It is a range because takes differ.
    """
    return forecasts(session, [job])[job.id]


def forecasts(session: Session, jobs: Sequence[Job]) -> dict[str, Outlook]:
    """Return the outlook of each of some jobs, by id; see `forecast`.

    What they have in common is asked for once, so a page of jobs costs little more than one: a query each for the
    line before those that wait.
    """
    outlooks = {job.id: Outlook(None, None, None, None) for job in jobs}
    unfinished = [job for job in jobs if not is_final(job.state)]
    if unfinished:
        floor = _Floor(session, unfinished)
        outlooks |= {job.id: _outlook(session, job, floor) for job in unfinished}
    return outlooks


def _outlook(session: Session, job: Job, floor: "_Floor") -> Outlook:
    place = floor.places.get(job.id)
    line = _NOBODY if place is None else _line_before(session, job, place)
    workers = floor.workers(job.pool)
    position = 0 if job.started_at else line.jobs
    if not workers:
        return Outlook(position, None, None, None)
    start = [_ZERO, _ZERO] if place is None else _start(floor.busy(job.pool), line, workers)
    own, shots = floor.own_work(job)
    side_by_side = min(workers, max(1, shots), place.concurrency if place else workers)
    if place is not None:
        # The account's own older work runs on no more workers than the account may use, however many there are.
        turn = _start(floor.busy_for(job), line.own or _NOBODY, min(workers, place.concurrency))
        start = [max(pair) for pair in zip(start, turn, strict=True)]
    ends = [begin + mine / side_by_side + last for begin, mine, last in zip(start, own, floor.finish(job), strict=True)]
    start_p50 = 0 if job.started_at else ceil(start[0])
    return Outlook(position, start_p50, ceil(ends[0]), ceil(max(ends)))


_ZERO = Decimal(0)


def _start(busy: "_Busy", line: "_Line", workers: int) -> list[Decimal]:
    """Return the p50 and p90 seconds until one of so many workers has time for what stands behind a line."""
    if not line.jobs and busy.takes < workers:
        return [_ZERO, _ZERO]
    return [(busy.p50 + line.p50) / workers, (busy.p90 + line.p90) / workers]


@dataclass(frozen=True)
class _Place:
    """Where a waiting job stands: class, account's virtual time, and age."""

    klass: int
    queued_at: datetime
    vtime: Decimal
    weight: Decimal
    concurrency: int


@dataclass(frozen=True)
class _Line:
    """Work that goes first: jobs, and seconds of one worker at the p50 and the p90 of each unit.

    `own` is the part of it that is the account's own.
    """

    jobs: int
    p50: Decimal
    p90: Decimal
    own: "_Line | None" = None


@dataclass(frozen=True)
class _Busy:
    """Takes that run, and the seconds that are left of them."""

    takes: int
    p50: Decimal
    p90: Decimal


_NOBODY = _Line(0, _ZERO, _ZERO)
_IDLE = _Busy(0, _ZERO, _ZERO)


# Seconds of a unit by its pace; where none is known, as app.dispatch.throughput says.
_P50 = Unit.frames * func.coalesce(Throughput.p50, 1)
_P90 = Unit.frames * func.coalesce(Throughput.p90, 2)


def _paced(*columns: Any) -> Select[Any]:
    """Select units beside their measured pace."""
    shape = Job.spec["resolution"].astext
    pace = (Throughput.model == Unit.model) & (Throughput.kind == Unit.kind) & (Throughput.shape == shape)
    return select(*columns).select_from(Unit).join(Job, Job.id == Unit.job_id).outerjoin(Throughput, pace)


def _line_before(session: Session, job: Job, place: _Place) -> _Line:
    """Return what will go before the job, from the sums of each account's ready work."""
    mine = Unit.account_id == job.account_id
    # Of its own account only what is older; of the others in its class all, to be cut to their share below.
    older = (Unit.klass < place.klass) | ((Unit.klass == place.klass) & (Unit.queued_at < place.queued_at))
    rows = session.execute(
        _paced(
            Unit.account_id,
            Unit.klass,
            func.min(Unit.queued_at),
            func.count(),
            func.count(Unit.job_id.distinct()),
            func.sum(_P50),
            func.sum(_P90),
            func.min(Share.vtime),
            func.min(Share.weight),
        )
        .outerjoin(Share, (Share.pool == Unit.pool) & (Share.account_id == Unit.account_id))
        .where(Unit.pool == job.pool, Unit.state == UnitState.READY, Unit.klass <= place.klass, Unit.job_id != job.id)
        .where(or_(~mine, older))
        .group_by(Unit.account_id, Unit.klass)
    ).all()
    whole = [row for row in rows if row[0] == job.account_id or row[1] < place.klass]
    rivals = [row for row in rows if row[0] != job.account_id and row[1] == place.klass]
    jobs = sum(row[4] for row in whole)
    p50, p90 = (sum((row[n] for row in whole), _ZERO) for n in (5, 6))
    mine_first = [row for row in whole if row[0] == job.account_id]
    own_p50, own_p90 = (sum((row[n] for row in mine_first), _ZERO) for n in (5, 6))
    own = _Line(sum(row[4] for row in mine_first), own_p50, own_p90)
    turn = place.vtime + own.p50 / place.weight  # the virtual time at which this job's turn has come
    for _, _, oldest, units, their_jobs, seconds, slow, vtime, weight in rivals:
        passing = _passing(turn, place, oldest, units, seconds / units / (weight or 1), vtime or _ZERO)
        jobs += ceil(Decimal(their_jobs * passing) / units)
        p50, p90 = p50 + seconds * passing / units, p90 + slow * passing / units
    return _Line(jobs, p50, p90, own)


def _passing(turn: Decimal, place: _Place, oldest: datetime, units: int, length: Decimal, vtime: Decimal) -> int:
    """Return how many of a rival's units begin before the job's turn; `length` is one's virtual time."""
    if vtime > turn:
        return 0
    if not length:
        return units
    whole, rest = divmod(turn - vtime, length)
    # At the very same virtual time the older one goes first.
    level = 1 if rest or oldest < place.queued_at else 0
    return min(units, int(whole) + level)


class _Floor:
    """What some jobs are foretold from, beside the line before each: asked for once, whatever their number."""

    def __init__(self, session: Session, jobs: Sequence[Job]) -> None:
        self._session = session
        ids = [job.id for job in jobs]
        self.places = _places(session, ids)
        self._rest = _rest(session, ids)
        self._running = _running(session, Take.job_id, Take.job_id.in_(ids), Take.kind == "segment")
        self._busy = _running(session, Take.pool, Take.pool.in_({job.pool for job in jobs}))
        accounts = {job.account_id for job in jobs}
        # An account's cap counts its segments in all pools, those of test orders apart: as a claim counts them.
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
        self._films = cache(lambda: _films_waiting(session))
        self._joins = cache(lambda shape, frames: estimate_seconds(session, FINISH_POOL, "finish", shape, frames))

    def busy(self, pool: str) -> _Busy:
        """Return the takes that run in a pool, and what is left of them."""
        return self._busy.get(pool, _IDLE)

    def busy_for(self, job: Job) -> _Busy:
        """Return the segments that run for the job's account, and what is left of those that are not the job's."""
        theirs = self._of_accounts[job.pool == TEST_POOL].get(job.account_id, _IDLE)
        mine = self._running.get(job.id, _IDLE)
        return _Busy(theirs.takes, theirs.p50 - mine.p50, theirs.p90 - mine.p90)

    def own_work(self, job: Job) -> tuple[list[Decimal], int]:
        """Return the p50 and p90 seconds of the job's remaining segments, and how many can run side by side."""
        p50, p90, shots = self._rest.get(job.id, (_ZERO, _ZERO, 0))
        running = self._running.get(job.id, _IDLE)
        return [p50 + running.p50, p90 + running.p90], shots

    def finish(self, job: Job) -> list[Decimal]:
        """Return the p50 and p90 seconds from the last segment to the end: other films that wait, and this one's."""
        own = self._joins(str(job.spec["resolution"]), int(job.spec["frames"]))
        # Only a job that is being finished may itself be among the films that wait.
        waiting = _films_waiting(self._session, job.id) if job.stage == Stage.FINISHING else self._films()
        workers = max(1, self.workers(FINISH_POOL))
        return [mine + others / workers for mine, others in zip(own, waiting, strict=True)]


def _places(session: Session, ids: Sequence[str]) -> dict[str, _Place]:
    """Return the place of each job's first ready unit; a job that has none runs, or is being finished."""
    rows = session.execute(
        select(Unit.job_id, Unit.klass, Unit.queued_at, Share.vtime, Share.weight, Share.concurrency)
        .ext(distinct_on(Unit.job_id))
        .join(Job, (Job.id == Unit.job_id) & (Job.pool == Unit.pool))
        .outerjoin(Share, (Share.pool == Unit.pool) & (Share.account_id == Unit.account_id))
        .where(Unit.job_id.in_(ids), Unit.state == UnitState.READY)
        .order_by(Unit.job_id, Unit.klass, Unit.queued_at)
    )
    return {row[0]: _Place(row[1], row[2], row[3] or _ZERO, row[4] or Decimal(1), row[5] or 1) for row in rows}


def _rest(session: Session, ids: Sequence[str]) -> dict[str, tuple[Decimal, Decimal, int]]:
    """Return for each job the p50 and p90 seconds of the segments that have not begun, and how many shots are open.

    A shot is open where a segment of it waits or runs; its segments follow one another.
    """
    waits = Unit.state.in_((UnitState.BLOCKED, UnitState.READY))
    lengths = [func.coalesce(func.sum(length).filter(waits), 0) for length in (_P50, _P90)]
    rows = session.execute(
        _paced(Unit.job_id, *lengths, func.count(Unit.shot.distinct()))
        .where(Unit.job_id.in_(ids), Unit.kind == "segment", waits | (Unit.state == UnitState.RUNNING))
        .group_by(Unit.job_id)
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _running(session: Session, by: Any, *which: Any) -> dict[str, _Busy]:
    """Return the takes that run and what is left of them, by a column: none of it is below nothing."""
    elapsed = func.extract("epoch", cast(lease_now(session), Moment) - Take.started_at)
    left = [func.sum(func.greatest(length - elapsed, 0)) for length in (_P50, _P90)]
    rows = session.execute(
        _paced(by, func.count(), *left)
        .join(Take, Take.unit_id == Unit.id)
        .where(Take.state == TakeState.RUNNING, *which)
        .group_by(by)
    )
    return {row[0]: _Busy(row[1], Decimal(row[2]), Decimal(row[3])) for row in rows}


def _films_waiting(session: Session, without: str | None = None) -> list[Decimal]:
    """Return the p50 and p90 seconds of all films that wait to be finished, one job's left out."""
    row = session.execute(
        _paced(func.coalesce(func.sum(_P50), 0), func.coalesce(func.sum(_P90), 0)).where(
            Unit.pool == FINISH_POOL, Unit.state == UnitState.READY, Unit.job_id.is_distinct_from(without)
        )
    ).one()
    return [row[0], row[1]]
