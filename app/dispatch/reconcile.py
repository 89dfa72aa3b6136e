"""Repair a stalled job: derive the state of its units from its takes, and make the next unit ready.

Every verb changes a job and its units in one transaction, so none of this should be needed. It keeps a bug, a restored
backup or a row that was edited by hand from holding a customer's money for ever.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, case, select, text, tuple_
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.jobs.fair_share import lock_shares
from app.jobs.meter import end_take
from app.jobs.plan import FINISH_POOL, enqueue_finish
from app.jobs.queue_tables import Take, Unit
from app.jobs.review import open_review_of
from app.jobs.settle import cancel_unrendered, fail
from app.jobs.spec import Spec
from app.jobs.states import JobState, Stage, TakeState, UnitState, is_final
from app.jobs.tables import Job
from app.moderation.tables import IS_OPEN, ModerationOutcome
from app.wakeups import wake_after_commit

_RUNNING_TAKE = select(Take.id).where(Take.unit_id == Unit.id, Take.state == TakeState.RUNNING).exists()
_LIVE_UNIT = select(Unit.id).where(Unit.job_id == Job.id, Unit.state.in_((UnitState.READY, UnitState.RUNNING))).exists()

# Whether a job waits for a review that somebody can decide.
_IN_REVIEW = and_(
    Job.stage == Stage.MODERATING,
    select(ModerationOutcome.id).where(ModerationOutcome.job_id == Job.id, text(IS_OPEN)).exists(),
)


def stalled_jobs(session: Session, *, limit: int) -> Sequence[str]:
    """Return the ids of started jobs without a ready or running unit, and of jobs whose units and takes disagree."""
    running_without_take = select(Unit.job_id).where(Unit.state == UnitState.RUNNING, ~_RUNNING_TAKE)
    take_without_running_unit = (
        select(Take.job_id)
        .join(Unit, Unit.id == Take.unit_id)
        .where(Take.state == TakeState.RUNNING, Unit.state != UnitState.RUNNING)
    )
    stuck = select(Job.id).where(Job.state == JobState.IN_PROGRESS, ~_LIVE_UNIT, ~_IN_REVIEW)
    job_ids = running_without_take.union(take_without_running_unit, stuck).limit(limit)
    return session.scalars(job_ids).all()


class StalledJobScan:
    """A scan of the queued jobs, some at a time, for jobs that neither a worker nor a moderator can bring on.

    A queue of a hundred thousand jobs is not read every second; a stalled job in it is found within minutes.
    """

    def __init__(self) -> None:
        self._after: tuple[datetime, str] | None = None

    def next(self, session: Session, *, limit: int) -> list[str]:
        """Return the ids of stalled jobs among the next `limit` queued jobs; start again after the last job."""
        sort_key = tuple_(Job.created_at, Job.id)
        lives = case((Job.stage == Stage.MODERATING, _IN_REVIEW), else_=_LIVE_UNIT)
        query = select(Job.id, Job.created_at, lives.label("lives")).where(Job.state == JobState.QUEUED)
        if self._after is not None:
            query = query.where(sort_key > self._after)
        rows = session.execute(query.order_by(Job.created_at, Job.id).limit(limit)).all()
        self._after = (rows[-1].created_at, rows[-1].id) if len(rows) == limit else None
        return [row.id for row in rows if not row.lives]


def reconcile_job(session: Session, job_id: str) -> bool:
    """Repair whatever keeps a job from ending. Returns whether anything was wrong; a second call finds nothing.

    A unit is made ready again, a finish enqueued, or the job ended without a charge: nothing is charged on a guess.
    """
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    query = select(Unit).where(Unit.job_id == job.id).order_by(Unit.shot, Unit.position).with_for_update()
    units = session.scalars(query.execution_options(populate_existing=True)).all()
    lock_shares(session, job.account_id, {job.pool, FINISH_POOL})
    segments = [unit for unit in units if unit.kind == "segment"]
    done = sum(unit.state == UnitState.DONE for unit in segments)
    if is_final(job.state):
        return _drop_open_units(session, job, units)
    if job.stage == Stage.MODERATING:
        return _end_without_review(session, job)
    if len(segments) != job.units_total:
        fail(
            session,
            job,
            code="work_lost",
            message="Parts of this job were lost. The job has failed; nothing is charged.",
        )
        return True
    if job.cancel_requested_at is not None and not done:
        cancel_unrendered(session, job)
        return True
    finish = next((unit for unit in units if unit.kind == "finish"), None)
    is_due = done == job.units_total or job.cancel_requested_at is not None
    states = _target_states(session, job, segments, finish if is_due else None)
    changed = [unit for unit in units if unit.state != states.get(unit.id, UnitState.DROPPED)]
    for unit in changed:
        unit.state = states.get(unit.id, UnitState.DROPPED)
    if is_due and finish is None:
        priority = min((unit.priority for unit in units), default=1)
        spec = Spec.model_validate(job.spec)
        enqueue_finish(session, job_id=job.id, account_id=job.account_id, priority=priority, spec=spec, at=now(session))
    voided = _void_takes(session, job, units)
    facts = {"units_done": done, "stage": _stage(job, is_due=is_due)}
    differ = [name for name, value in facts.items() if getattr(job, name) != value]
    for name in differ:
        setattr(job, name, facts[name])
    session.flush()
    for pool in {job.pool, FINISH_POOL}:
        wake_after_commit(session, pool)
    return bool(changed or differ or voided or (is_due and finish is None))


def _end_without_review(session: Session, job: Job) -> bool:
    """End a job whose review is lost, as nobody could decide it; nothing that was to be reviewed is made unseen."""
    if open_review_of(session, job.id) is not None:
        return False
    fail(
        session,
        job,
        code="work_lost",
        message="The review of this job was lost. The job has failed; nothing is charged.",
    )
    return True


def _target_states(session: Session, job: Job, segments: Sequence[Unit], finish: Unit | None) -> dict[str, UnitState]:
    """Return the state that each unit should have; a unit that is missing here should be dropped."""
    running = set(session.scalars(select(Take.unit_id).where(Take.job_id == job.id, Take.state == TakeState.RUNNING)))
    states: dict[str, UnitState] = {}
    open_shots: set[int] = set()  # shots with a segment before this one that is not done
    for unit in segments:
        if unit.state == UnitState.DONE:
            states[unit.id] = UnitState.DONE
        elif job.cancel_requested_at is None:
            state = UnitState.RUNNING if unit.id in running else UnitState.READY
            states[unit.id] = UnitState.BLOCKED if unit.shot in open_shots else state
            open_shots.add(unit.shot)
    if finish is not None:
        states[finish.id] = UnitState.RUNNING if finish.id in running else UnitState.READY
    return states


def _stage(job: Job, *, is_due: bool) -> Stage:
    if job.state == JobState.QUEUED:
        return Stage.WAITING
    return Stage.FINISHING if is_due else Stage.RENDERING


def _void_takes(session: Session, job: Job, units: Sequence[Unit]) -> int:
    """Release the running takes of units that do not run: their output would be made twice. Returns how many."""
    session.flush()
    idle = [unit.id for unit in units if unit.state != UnitState.RUNNING]
    running = select(Take).where(Take.job_id == job.id, Take.unit_id.in_(idle), Take.state == TakeState.RUNNING)
    takes = session.scalars(running.with_for_update().execution_options(populate_existing=True)).all()
    for take in takes:
        end_take(session, take, TakeState.RELEASED, ended_at=lease_now(session))
    return len(takes)


def _drop_open_units(session: Session, job: Job, units: Sequence[Unit]) -> bool:
    """Drop the units that a job that has ended still has in the queue."""
    open_units = [unit for unit in units if unit.state not in (UnitState.DONE, UnitState.DROPPED)]
    for unit in open_units:
        unit.state = UnitState.DROPPED
    return bool(_void_takes(session, job, units) or open_units)
