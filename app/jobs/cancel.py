"""Cancel a job: segments done before the request are joined and paid; the GPU stops within a step."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.jobs.fair_share import lock_shares
from app.jobs.plan import FINISH_POOL, enqueue_finish
from app.jobs.queue_tables import Unit
from app.jobs.settle import cancel_unrendered, drop_work
from app.jobs.spec import Spec
from app.jobs.states import Stage, UnitState, is_final
from app.jobs.tables import Job
from app.wakeups import wake_after_commit


def request_cancel(session: Session, job: Job) -> Job:
    """Cancel a job whose row the caller has locked.

    Segments that ended before this moment are kept: their clips are joined in order, delivered and billed. Everything
    else is dropped and its leases are void, so a worker that is still rendering can write nothing. A job without a
    finished segment, or one that waits for a review, ends at once and costs nothing.

    Raises AppError `already_final`, or `too_late` once the film is being finished. A second cancel changes nothing.
    """
    if is_final(job.state):
        raise AppError("already_final", f"The job has already ended as {job.state}.", state=job.state)
    if job.cancel_requested_at is not None:
        return job
    if job.stage == Stage.FINISHING:
        raise AppError("too_late", "The film is already being finished; it can no longer be cancelled.")
    moment = now(session)
    job.cancel_requested_at = moment
    segments_done = session.scalar(
        select(func.count()).where(Unit.job_id == job.id, Unit.kind == "segment", Unit.state == UnitState.DONE)
    )
    # A film that waits for a review was not delivered: nobody sees it, and nobody pays for it.
    if not segments_done or job.stage == Stage.MODERATING:
        cancel_unrendered(session, job)
        return job
    lock_shares(session, job.account_id, {job.pool, FINISH_POOL})
    drop_work(session, job)
    job.stage = Stage.FINISHING
    priority = session.scalar(select(func.min(Unit.priority)).where(Unit.job_id == job.id))
    enqueue_finish(
        session,
        job_id=job.id,
        account_id=job.account_id,
        priority=priority if priority is not None else 1,
        spec=Spec.model_validate(job.spec),
        at=moment,
    )
    wake_after_commit(session, FINISH_POOL)
    return job
