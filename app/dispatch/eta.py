"""The honest queue: where a job stands and when it will probably start and end, from measured paces."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import ceil
from typing import Any

from sqlalchemy import Select, cast, func, or_, select
from sqlalchemy.orm import Session

from app.clock import lease_now
from app.db import Moment
from app.dispatch.pace import estimate_seconds
from app.dispatch.roster import live_workers
from app.dispatch.tables import Pace
from app.jobs.plan import FINISH_POOL
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.states import TakeState, UnitState, is_final
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
    if is_final(job.state):
        return Outlook(None, None, None, None)
    place = _place(session, job)
    line = _Line(0, _ZERO, _ZERO) if place is None else _line_before(session, job, place)
    workers = live_workers(session, job.pool)
    position = 0 if job.started_at else line.jobs
    if not workers:
        return Outlook(position, None, None, None)
    busy = _running(session, Take.pool == job.pool)
    start = [_ZERO, _ZERO]
    if place is not None and (line.jobs or busy.takes >= workers):
        start = [(busy.p50 + line.p50) / workers, (busy.p90 + line.p90) / workers]
    own, shots = _own_work(session, job)
    side_by_side = min(workers, max(1, shots), place.concurrency if place else workers)
    finish = _finish(session, job)
    ends = [begin + mine / side_by_side + last for begin, mine, last in zip(start, own, finish, strict=True)]
    start_p50 = 0 if job.started_at else ceil(start[0])
    return Outlook(position, start_p50, ceil(ends[0]), ceil(max(ends)))


_ZERO = Decimal(0)


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
    """Work that goes first: jobs, and seconds of one worker at the p50 and the p90 of each unit."""

    jobs: int
    p50: Decimal
    p90: Decimal


@dataclass(frozen=True)
class _Busy:
    """Takes that run, and the seconds that are left of them."""

    takes: int
    p50: Decimal
    p90: Decimal


def _place(session: Session, job: Job) -> _Place | None:
    """Return the place of the job's first ready unit, or None where it has none: it runs, or is being finished."""
    row = session.execute(
        select(Unit.klass, Unit.queued_at, Share.vtime, Share.weight, Share.concurrency)
        .outerjoin(Share, (Share.pool == Unit.pool) & (Share.account_id == Unit.account_id))
        .where(Unit.job_id == job.id, Unit.pool == job.pool, Unit.state == UnitState.READY)
        .order_by(Unit.klass, Unit.queued_at)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return _Place(row[0], row[1], row[2] or _ZERO, row[3] or Decimal(1), row[4] or 1)


# Seconds of a unit by its pace; where none is known, as app.dispatch.pace says.
_P50 = Unit.frames * func.coalesce(Pace.p50, 1)
_P90 = Unit.frames * func.coalesce(Pace.p90, 2)


def _paced(*columns: Any) -> Select[Any]:
    """Select units beside their measured pace."""
    shape = Job.spec["resolution"].astext
    pace = (Pace.model == Unit.model) & (Pace.kind == Unit.kind) & (Pace.shape == shape)
    return select(*columns).select_from(Unit).join(Job, Job.id == Unit.job_id).outerjoin(Pace, pace)


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
    own = sum((row[5] for row in whole if row[0] == job.account_id), _ZERO)
    turn = place.vtime + own / place.weight  # the virtual time at which this job's turn has come
    for _, _, oldest, units, their_jobs, seconds, slow, vtime, weight in rivals:
        passing = _passing(turn, place, oldest, units, seconds / units / (weight or 1), vtime or _ZERO)
        jobs += ceil(Decimal(their_jobs * passing) / units)
        p50, p90 = p50 + seconds * passing / units, p90 + slow * passing / units
    return _Line(jobs, p50, p90)


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


def _running(session: Session, *which: Any) -> _Busy:
    """Return the takes that run and what is left of them: none of it is below nothing."""
    elapsed = func.extract("epoch", cast(lease_now(session), Moment) - Take.started_at)
    row = session.execute(
        _paced(
            func.count(),
            func.coalesce(func.sum(func.greatest(_P50 - elapsed, 0)), 0),
            func.coalesce(func.sum(func.greatest(_P90 - elapsed, 0)), 0),
        )
        .join(Take, Take.unit_id == Unit.id)
        .where(Take.state == TakeState.RUNNING, *which)
    ).one()
    return _Busy(row[0], Decimal(row[1]), Decimal(row[2]))


def _own_work(session: Session, job: Job) -> tuple[list[Decimal], int]:
    """Return the p50 and p90 seconds of the job's remaining segments, and how many can run side by side."""
    rest = session.execute(
        _paced(
            func.coalesce(func.sum(_P50), 0), func.coalesce(func.sum(_P90), 0), func.count(Unit.shot.distinct())
        ).where(Unit.job_id == job.id, Unit.kind == "segment", Unit.state.in_((UnitState.BLOCKED, UnitState.READY)))
    ).one()
    running = _running(session, Take.job_id == job.id, Take.kind == "segment")
    return [rest[0] + running.p50, rest[1] + running.p90], rest[2] + running.takes


def _finish(session: Session, job: Job) -> list[Decimal]:
    """Return the p50 and p90 seconds from the last segment to the end: other films that wait, and this one's join."""
    frames, resolution = int(job.spec["frames"]), str(job.spec["resolution"])
    own = estimate_seconds(session, FINISH_POOL, "finish", resolution, frames)
    workers = live_workers(session, FINISH_POOL)
    row = session.execute(
        _paced(func.coalesce(func.sum(_P50), 0), func.coalesce(func.sum(_P90), 0)).where(
            Unit.pool == FINISH_POOL, Unit.state == UnitState.READY, Unit.job_id != job.id
        )
    ).one()
    return [mine + waiting / max(1, workers) for mine, waiting in zip(own, row, strict=True)]
