"""The showcase: owners agree that a film is shown to everybody, and operators choose among those films."""

from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.jobs.showcase_tables import ShowcaseAgreement
from app.jobs.states import JobState
from app.jobs.tables import Job

# The most films on the landing page.
SHOWCASE_MAX = 6


def may_be_shown(job: Job, moment: datetime) -> bool:
    """Return whether a film can be shown to everybody at a moment: it is complete, live, and kept."""
    return job.state == JobState.COMPLETED and not job.test and is_kept(job, moment)


def is_kept(job: Job, moment: datetime) -> bool:
    """Return whether a job has a film that is neither deleted nor expired, and its files are there."""
    is_stored = job.film_key is not None and job.files_removed_at is None and job.deleted_at is None
    return is_stored and (job.files_expire_at is None or job.files_expire_at > moment)


def agree_to_showcase(session: Session, actor: Actor, job: Job) -> ShowcaseAgreement:
    """Record that the film's owner lets everybody see it; the caller holds the job's lock and checked the owner.

    A repeated agreement changes nothing. Raises AppError `conflict` for a film that cannot be shown.
    """
    moment = now(session)
    if not may_be_shown(job, moment):
        raise AppError("conflict", "Only a complete film whose files are kept can be shown.", state=job.state)
    agreement = open_agreement(session, job.id)
    if agreement is not None:
        return agreement
    values = {"job_id": job.id, "account_id": job.account_id, "agreed_by": actor.person, "agreed_at": moment}
    agreement = ShowcaseAgreement(id=new_id("show"), **values)
    session.add(agreement)
    session.flush()
    record_action(session, actor, "film.showcase_agreed", job.id, account=job.account_id, agreement=agreement.id)
    return agreement


def revoke_agreement(session: Session, actor: Actor, job: Job) -> None:
    """End the agreement of a film, which leaves the landing page at once; the caller holds the job's lock.

    Without an open agreement nothing changes.
    """
    agreement = open_agreement(session, job.id, lock=True)
    if agreement is None:
        return
    agreement.revoked_by, agreement.revoked_at = actor.person, now(session)
    record_action(session, actor, "film.showcase_revoked", job.id, account=job.account_id, agreement=agreement.id)


def remove_choice(session: Session, actor: Actor, job: Job) -> None:
    """Remove a film from the landing page; the owner's agreement stays. Where it is not there, nothing changes."""
    agreement = open_agreement(session, job.id, lock=True)
    if agreement is None or agreement.chosen_at is None:
        return
    agreement.chosen_by = agreement.chosen_at = None
    record_action(session, actor, "film.showcase_removed", job.id, account=job.account_id, agreement=agreement.id)


def open_agreement(session: Session, job_id: str, *, lock: bool = False) -> ShowcaseAgreement | None:
    """Return the agreement of a film that is not revoked, or None."""
    query = select(ShowcaseAgreement).where(ShowcaseAgreement.job_id == job_id, ShowcaseAgreement.revoked_at.is_(None))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def shown_films(session: Session) -> list[tuple[ShowcaseAgreement, Job]]:
    """Return the films of the landing page, the last chosen first. Revoked, deleted and expired ones are left out."""
    query = _visible(session).where(ShowcaseAgreement.chosen_at.is_not(None))
    rows = session.execute(query.order_by(ShowcaseAgreement.chosen_at.desc()).limit(SHOWCASE_MAX))
    return [(agreement, job) for agreement, job in rows]


def agreed_films(session: Session, *, limit: int) -> list[tuple[ShowcaseAgreement, Job]]:
    """Return films whose owners agreed and which can be shown: those on the landing page first, then the newest."""
    order = (ShowcaseAgreement.chosen_at.desc().nulls_last(), ShowcaseAgreement.agreed_at.desc())
    return [(agreement, job) for agreement, job in session.execute(_visible(session).order_by(*order).limit(limit))]


def find_shown_film(session: Session, agreement_id: str, *, is_chosen: bool = True) -> Job:
    """Return a film of the landing page by its agreement; without `is_chosen` any that the owner agreed to.

    Raises AppError `not_found` from the moment at which it is revoked, removed from the page, deleted or expired.
    """
    query = _visible(session).where(ShowcaseAgreement.id == agreement_id)
    if is_chosen:
        query = query.where(ShowcaseAgreement.chosen_at.is_not(None))
    row = session.execute(query).one_or_none()
    if row is None:
        raise not_found("film", agreement_id)
    _, job = row
    return job


def _visible(session: Session) -> Select[ShowcaseAgreement, Job]:
    """Return the query of films that can be shown: `may_be_shown`, an open agreement, and an account in good order."""
    query = select(ShowcaseAgreement, Job).join(Job, Job.id == ShowcaseAgreement.job_id)
    query = query.join(Account, Account.id == ShowcaseAgreement.account_id)
    return query.where(ShowcaseAgreement.revoked_at.is_(None), Account.suspended_at.is_(None), _can_be_shown(session))


def _can_be_shown(session: Session) -> ColumnElement[bool]:
    """Return `may_be_shown` as a condition of a query."""
    kept = or_(Job.files_expire_at.is_(None), Job.files_expire_at > now(session))
    complete = and_(Job.state == JobState.COMPLETED, Job.film_key.is_not(None), Job.test.is_(False))
    return and_(complete, kept, Job.files_removed_at.is_(None), Job.deleted_at.is_(None))
