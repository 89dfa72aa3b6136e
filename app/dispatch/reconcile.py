"""Mend a job that stands still: put its units where its takes say they are, and open what comes next.

Every verb changes a job and its units in one transaction, so none of this should be needed. It is what keeps a mistake,
a restored backup or a row that was changed by hand from holding a customer's money for ever.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.jobs.meter import end_take
from app.jobs.plan import FINISH_POOL, enqueue_finish
from app.jobs.queue_tables import Take, Unit
from app.jobs.settle import cancel_unrendered, fail
from app.jobs.spec import Spec
from app.jobs.states import JobState, Stage, TakeState, UnitState, is_final
from app.jobs.tables import Job
from app.wakeups import wake_after_commit

_RUNNING_TAKE = select(Take.id).where(Take.unit_id == Unit.id, Take.state == TakeState.RUNNING).exists()
_LIVE_UNIT = select(Unit.id).where(Unit.job_id == Job.id, Unit.state.in_((UnitState.READY, UnitState.RUNNING))).exists()


def stalled_jobs(session: Session, *, limit: int) -> Sequence[str]:
    """Return the ids of started jobs that nobody works for and nobody could, and of units and takes that disagree."""
    bereft = select(Unit.job_id).where(Unit.state == UnitState.RUNNING, ~_RUNNING_TAKE)
    unnoticed = (
        select(Take.job_id)
        .join(Unit, Unit.id == Take.unit_id)
        .where(Take.state == TakeState.RUNNING, Unit.state != UnitState.RUNNING)
    )
    stuck = select(Job.id).where(Job.state == JobState.IN_PROGRESS, ~_LIVE_UNIT)
    found = bereft.union(unnoticed, stuck).limit(limit)
    return session.scalars(found).all()


class StalledJobScan:
    """A walk over the queued jobs, some at a time, that finds those of which no unit can be claimed.

    A queue of a hundred thousand is not looked through every second; whoever stands still in it is found within
    minutes.
    """

    def __init__(self) -> None:
        self._after: tuple[datetime, str] | None = None

    def next(self, session: Session, *, limit: int) -> list[str]:
        """Return the ids that stand still among the next `limit` queued jobs, and begin again after the last."""
        place = tuple_(Job.created_at, Job.id)
        query = select(Job.id, Job.created_at, _LIVE_UNIT.label("lives")).where(Job.state == JobState.QUEUED)
        if self._after is not None:
            query = query.where(place > self._after)
        rows = session.execute(query.order_by(Job.created_at, Job.id).limit(limit)).all()
        self._after = (rows[-1].created_at, rows[-1].id) if len(rows) == limit else None
        return [row.id for row in rows if not row.lives]


def reconcile_job(session: Session, job_id: str) -> bool:
    """Put right whatever keeps a job from ending. Returns whether there was anything; a second time there is not.

    A unit is made ready again, a finish opened, or the job ended without a charge: nothing is charged on a guess.
    """
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    everything = select(Unit).where(Unit.job_id == job.id).order_by(Unit.shot, Unit.position).with_for_update()
    units = session.scalars(everything.execution_options(populate_existing=True)).all()
    segments = [unit for unit in units if unit.kind == "segment"]
    done = sum(unit.state == UnitState.DONE for unit in segments)
    if is_final(job.state):
        return _let_go(session, job, units)
    if len(segments) != job.units_total:
        fail(session, job, code="work_lost", message="Parts of this job were lost; it is given up and costs nothing.")
        return True
    if job.cancel_requested_at is not None and not done:
        cancel_unrendered(session, job)
        return True
    finish = next((unit for unit in units if unit.kind == "finish"), None)
    is_due = done == job.units_total or job.cancel_requested_at is not None
    wanted = _wanted(session, job, segments, finish if is_due else None)
    changed = [unit for unit in units if unit.state != wanted.get(unit.id, UnitState.DROPPED)]
    for unit in changed:
        unit.state = wanted.get(unit.id, UnitState.DROPPED)
    if is_due and finish is None:
        klass = min((unit.klass for unit in units), default=1)
        spec = Spec.model_validate(job.spec)
        enqueue_finish(session, job_id=job.id, account_id=job.account_id, klass=klass, spec=spec, at=now(session))
    voided = _void_takes(session, job, units)
    facts = {"units_done": done, "stage": _stage(job, is_due=is_due)}
    differ = [name for name, value in facts.items() if getattr(job, name) != value]
    for name in differ:
        setattr(job, name, facts[name])
    session.flush()
    for pool in {job.pool, FINISH_POOL}:
        wake_after_commit(session, pool)
    return bool(changed or differ or voided or (is_due and finish is None))


def _wanted(session: Session, job: Job, segments: Sequence[Unit], finish: Unit | None) -> dict[str, UnitState]:
    """Return the state that each unit should have; what is not named should be dropped."""
    running = set(session.scalars(select(Take.unit_id).where(Take.job_id == job.id, Take.state == TakeState.RUNNING)))
    wanted: dict[str, UnitState] = {}
    open_shots: set[int] = set()  # shots with a segment before this one that is not done
    for unit in segments:
        if unit.state == UnitState.DONE:
            wanted[unit.id] = UnitState.DONE
        elif job.cancel_requested_at is None:
            here = UnitState.RUNNING if unit.id in running else UnitState.READY
            wanted[unit.id] = UnitState.BLOCKED if unit.shot in open_shots else here
            open_shots.add(unit.shot)
    if finish is not None:
        wanted[finish.id] = UnitState.RUNNING if finish.id in running else UnitState.READY
    return wanted


def _stage(job: Job, *, is_due: bool) -> Stage:
    if job.state == JobState.QUEUED:
        return Stage.WAITING
    return Stage.FINISHING if is_due else Stage.RENDERING


def _void_takes(session: Session, job: Job, units: Sequence[Unit]) -> int:
    """End the running takes of units that do not run: what they make would be made twice. Returns how many."""
    session.flush()
    idle = [unit.id for unit in units if unit.state != UnitState.RUNNING]
    running = select(Take).where(Take.job_id == job.id, Take.unit_id.in_(idle), Take.state == TakeState.RUNNING)
    takes = session.scalars(running.with_for_update().execution_options(populate_existing=True)).all()
    for take in takes:
        end_take(session, take, TakeState.RELEASED, ended_at=lease_now(session))
    return len(takes)


def _let_go(session: Session, job: Job, units: Sequence[Unit]) -> bool:
    """Drop what a job that has ended still has in the queue."""
    left = [unit for unit in units if unit.state not in (UnitState.DONE, UnitState.DROPPED)]
    for unit in left:
        unit.state = UnitState.DROPPED
    return bool(_void_takes(session, job, units) or left)
