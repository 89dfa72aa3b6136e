"""What operators may do to the jobs of every account, each action in the audit log."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError, not_found
from app.jobs.cancel import request_cancel
from app.jobs.links import revoke_links
from app.jobs.showcase import is_kept
from app.jobs.tables import Job
from app.roles import Role, require_role


def cancel_job(session: Session, actor: Actor, job_id: str) -> Job:
    """Cancel the job of any account: what was rendered before is delivered and charged, nothing else.

    Raises AppError `forbidden` without the role operator, `not_found`, and `already_final` or `too_late` as
    `request_cancel` does. A repeated cancel changes nothing and is not logged again.
    """
    job = _locked(session, actor, job_id)
    is_repeated = job.cancel_requested_at is not None
    request_cancel(session, job)
    if not is_repeated:
        record_action(session, actor, "job.cancelled", job_id, account=job.account_id)
    return job


def revoke_job_links(session: Session, actor: Actor, job_id: str) -> Job:
    """Void every link to a film of any account that works without a key. New ones work.

    Raises AppError `forbidden` without the role operator, `not_found`.
    """
    job = _locked(session, actor, job_id)
    revoke_links(job)
    record_action(session, actor, "job.links_revoked", job_id, account=job.account_id)
    return job


def view_film(session: Session, actor: Actor, job_id: str) -> Job:
    """Return a job whose film an operator is going to see; the audit log says who saw it.

    Raises AppError `forbidden` without the role operator, `not_found`; `gone` where there is no film.
    """
    job = _locked(session, actor, job_id)
    if not has_film(job, now(session)):
        raise AppError("gone", "There is no film to show.")
    record_action(session, actor, "film.viewed", job_id, account=job.account_id)
    return job


def has_film(job: Job, moment: datetime) -> bool:
    """Return whether an operator may see a job's film at a moment: it was made and settled, and is kept."""
    return job.finished_at is not None and is_kept(job, moment)


def _locked(session: Session, actor: Actor, job_id: str) -> Job:
    require_role(actor, Role.OPERATOR)
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise not_found("video", job_id)
    return job
