"""What operators may do to the jobs of every account, each action in the audit log."""

from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.errors import not_found
from app.jobs.cancel import request_cancel
from app.jobs.tables import Job
from app.roles import Role, require_role


def cancel_job(session: Session, actor: Actor, job_id: str) -> Job:
    """Cancel the job of any account: what was rendered before is delivered and charged, nothing else.

    Raises AppError `forbidden` without the role operator, `not_found`, and `already_final` or `too_late` as
    `request_cancel` does. A repeated cancel changes nothing and is not logged again.
    """
    require_role(actor, Role.OPERATOR)
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise not_found("video", job_id)
    is_repeated = job.cancel_requested_at is not None
    request_cancel(session, job)
    if not is_repeated:
        record_action(session, actor, "job.cancelled", job_id, account=job.account_id)
    return job
