"""Quarantine: the films that the check of their pictures refused, which moderators alone can see, for a stated time.

A film that waits for a decision is kept until then, and whoever may decide can see it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import exists, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import list_entries, record_action
from app.clock import now
from app.db import transaction
from app.errors import AppError, not_found
from app.jobs.quarantine_tables import QuarantinedFilm
from app.jobs.tables import Job
from app.moderation.outcomes import Finding
from app.moderation.policy import moderation_policy
from app.moderation.tables import IS_OPEN, ModerationOutcome
from app.roles import Role, require_role
from app.storage import Stat, Stored, get_storage

FOLDER = "quarantine/"
_SEEN = "quarantine.seen"
# A player reads a film in parts: what one person reads of one film in this time is one look.
_LOOK = timedelta(minutes=10)
_OPEN = text(IS_OPEN)


def quarantine_key(job_id: str, take_id: str) -> str:
    """Return the key under which a take stores a refused film. No page, link or other film refers to it."""
    return f"{FOLDER}{job_id}/{take_id}/film.mp4"


def quarantine_film(session: Session, job: Job, finding: Finding, stored: Stored) -> None:
    """Record where moderators find a film that was refused, or waits for their decision; the caller holds the job."""
    moment = now(session)
    values = {
        "account_id": job.account_id,
        "key": stored.key,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "category": finding.category,
        "score": finding.score,
        "checker": finding.checker,
        "quarantined_at": moment,
        "expires_at": moment + timedelta(days=moderation_policy().pictures.quarantine_days),
        "removed_at": None,
    }
    row = insert(QuarantinedFilm).values(job_id=job.id, **values)
    session.execute(row.on_conflict_do_update(index_elements=["job_id"], set_=values))


def release_film(session: Session, job_id: str) -> None:
    """Let what moderators have seen of a film expire, as it was allowed."""
    mine = update(QuarantinedFilm).where(QuarantinedFilm.job_id == job_id)
    session.execute(mine.values(expires_at=now(session)))


def list_quarantine(
    session: Session, actor: Actor, *, limit: int, before: tuple[datetime, str] | None = None
) -> Sequence[QuarantinedFilm]:
    """Return refused films, the newest first; `before` is (quarantined_at, job_id) of the last one of a page.

    Raises AppError `forbidden` for whoever is no moderator.
    """
    require_role(actor, Role.MODERATOR)
    query = select(QuarantinedFilm)
    if before is not None:
        query = query.where(tuple_(QuarantinedFilm.quarantined_at, QuarantinedFilm.job_id) < before)
    newest = query.order_by(QuarantinedFilm.quarantined_at.desc(), QuarantinedFilm.job_id.desc())
    return session.scalars(newest.limit(limit)).all()


def jobs_in_review(session: Session, job_ids: Collection[str]) -> set[str | None]:
    """Return the jobs among these for which somebody is to decide: their films are kept until then at least."""
    return set(session.scalars(select(ModerationOutcome.job_id).where(ModerationOutcome.job_id.in_(job_ids), _OPEN)))


def is_kept(session: Session, job_id: str) -> bool:
    """Return whether there is a film of this job in quarantine that can be seen now."""
    film = session.get(QuarantinedFilm, job_id)
    if film is None or film.removed_at is not None:
        return False
    return film.expires_at > now(session) or bool(jobs_in_review(session, [job_id]))


def find_quarantined(session: Session, actor: Actor, job_id: str) -> QuarantinedFilm:
    """Return a refused film that is still kept, to a moderator, or to an operator who may decide on it now.

    Raises AppError `forbidden`, `not_found` and `gone`.
    """
    if Role.OPERATOR not in actor.roles or not jobs_in_review(session, [job_id]):
        require_role(actor, Role.MODERATOR)
    film = session.get(QuarantinedFilm, job_id)
    if film is None:
        raise not_found("video", job_id)
    if not is_kept(session, job_id):
        raise AppError("gone", "This film is no longer in quarantine.", id=job_id)
    return film


def see_quarantined(session: Session, actor: Actor, job_id: str) -> QuarantinedFilm:
    """Return a refused film of which somebody reads anything, and write that into the audit log, once a look.

    Raises AppError as `find_quarantined` does.
    """
    film = find_quarantined(session, actor, job_id)
    since = now(session) - _LOOK
    if not list_entries(session, subject=job_id, actor=actor.person, act=_SEEN, since=since, limit=1):
        record_action(session, actor, _SEEN, job_id, account=film.account_id, category=film.category)
    return film


def remove_expired(*, limit: int) -> int:
    """Delete the files of a few refused films whose time is over. Returns how many.

    The row says so first, so that nobody is shown a film that is being deleted; after a crash in between
    `unreferenced_quarantine` finds the file.
    """
    with transaction() as session:
        due = (QuarantinedFilm.expires_at <= now(session), QuarantinedFilm.removed_at.is_(None))
        in_review = exists().where(ModerationOutcome.job_id == QuarantinedFilm.job_id, _OPEN)
        query = select(QuarantinedFilm).where(*due, ~in_review).order_by(QuarantinedFilm.expires_at).limit(limit)
        films = session.scalars(query.with_for_update(skip_locked=True)).all()
        keys = [film.key for film in films]
        for film in films:
            film.removed_at = now(session)
    for key in keys:
        get_storage().delete(key)
    return len(keys)


def unreferenced_quarantine(session: Session, stats: Collection[Stat], *, older_than: timedelta) -> list[str]:
    """Return the keys among these that no film in quarantine refers to: of takes that were lost, and leftovers."""
    names = [stat.key for stat in stats]
    referenced = QuarantinedFilm.key.in_(names), QuarantinedFilm.removed_at.is_(None)
    known = set(session.scalars(select(QuarantinedFilm.key).where(*referenced)))
    before = now(session) - older_than
    return [stat.key for stat in stats if stat.key not in known and stat.modified_at < before]
