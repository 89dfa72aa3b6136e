"""What operators do with the showcase: choose films whose owners agreed, and remove them from the landing page."""

from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError, not_found
from app.jobs.showcase import SHOWCASE_MAX, may_be_shown, open_agreement, remove_choice, shown_films
from app.jobs.showcase_tables import ShowcaseAgreement
from app.jobs.tables import Job
from app.roles import Role, require_role


def choose_film(session: Session, actor: Actor, job_id: str) -> ShowcaseAgreement:
    """Show a film on the landing page. Choosing it again changes nothing.

    Raises AppError `forbidden`, `not_found`, and `conflict` where the owner does not agree, where the film cannot be
    shown any more, or where the page is full.
    """
    require_role(actor, Role.OPERATOR)
    job, agreement = _locked(session, job_id)
    if agreement is None:
        raise AppError("conflict", "The owner of this film has not agreed to show it.", video=job_id)
    if agreement.chosen_at is not None:
        return agreement
    if not may_be_shown(job, now(session)):
        raise AppError("conflict", "This film was deleted or its files have expired.", video=job_id)
    if len(shown_films(session)) >= SHOWCASE_MAX:
        message = f"The landing page shows at most {SHOWCASE_MAX} films. Remove one first."
        raise AppError("conflict", message, maximum=SHOWCASE_MAX)
    agreement.chosen_by, agreement.chosen_at = actor.person, now(session)
    record_action(session, actor, "film.showcase_chosen", job_id, account=job.account_id, agreement=agreement.id)
    return agreement


def remove_film(session: Session, actor: Actor, job_id: str) -> None:
    """Remove a film from the landing page; the owner's agreement stays. Repeated, it changes nothing.

    Raises AppError `forbidden` and `not_found`.
    """
    require_role(actor, Role.OPERATOR)
    job, _ = _locked(session, job_id)
    remove_choice(session, actor, job)


def _locked(session: Session, job_id: str) -> tuple[Job, ShowcaseAgreement | None]:
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        raise not_found("video", job_id)
    return job, open_agreement(session, job_id, lock=True)
