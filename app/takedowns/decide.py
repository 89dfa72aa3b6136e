"""Decide a report: remove the film and its copies, or keep it."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.assets.remove import delete_copies
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.events.record import record_event
from app.events.tables import Event
from app.jobs.settle import fail
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.provenance.backfill_tables import file_hashes
from app.provenance.blocked_tables import BlockedFile
from app.provenance.registry import find_films
from app.provenance.registry_tables import RegistryFilm
from app.roles import Role, require_role
from app.takedowns.categories import CATEGORIES
from app.takedowns.reports import find_report
from app.takedowns.tables import ContentReport, ReportState
from app.webhooks.fanout import fan_out

# Copies of a film that are looked for, and that one decision can remove beside it.
COPIES_MAX = 100
# What the owner of a film that was still being made is told.
REMOVED_MESSAGE = "An operator removed this film after a report."
# What is made from a film with its pictures. A remix has its words only.
DERIVED_KINDS = ("retake", "extension", "edit")


def find_copies(session: Session, film_id: str) -> list[str]:
    """Return the ids of other films that are the same file, look like it, or share shots with it.

    Films that were made from each other are among them, finished or not: retakes, extensions and edits in both
    directions. At most COPIES_MAX are returned.
    """
    row = session.get(RegistryFilm, film_id)
    found: dict[str, None] = {}
    if row is not None:
        mark_ids = [] if row.mark_id is None else [row.mark_id]
        hashes = file_hashes(session, film_id)
        alike = find_films(session, hashes=hashes, mark_ids=mark_ids, frame_hashes=row.frame_hashes)
        found = dict.fromkeys(alike.same_file)
        found |= dict.fromkeys([*_relatives(session, film_id, row.account_id), *alike.watermarked, *alike.similar])
    else:
        found = dict.fromkeys(_relatives(session, film_id, None))
    return [each for each in found if each != film_id][:COPIES_MAX]


def _relatives(session: Session, film_id: str, account_id: str | None) -> list[str]:
    """Return the ids of films that share pictures with a film, over any number of steps of derivation.

    `account_id` is the film's in the registry: only films of one account are made from each other.
    """
    known, recent = [film_id], [film_id]
    while recent and len(known) <= COPIES_MAX:
        derived = (Job.parent_kind.in_(DERIVED_KINDS), Job.parent_id.is_not(None))
        nearby = [
            *session.scalars(select(Job.id).where(Job.parent_id.in_(recent), *derived).limit(COPIES_MAX)),
            *session.scalars(select(Job.parent_id).where(Job.id.in_(recent), *derived)),
        ]
        own = select(RegistryFilm.film_id).where(RegistryFilm.account_id == account_id)
        nearby += session.scalars(own.where(RegistryFilm.reused_films.overlap(recent)).limit(COPIES_MAX))
        for reused in session.scalars(select(RegistryFilm.reused_films).where(RegistryFilm.film_id.in_(recent))):
            nearby += reused
        recent = [each for each in dict.fromkeys(nearby) if each not in known][:COPIES_MAX]
        known += recent
    return known[1:]


def stop_films(actor: Actor, report_id: str, film_ids: Iterable[str], *, reason: str) -> None:
    """End those of the films that are still being made, so that `remove_films` can remove them. They cost nothing.

    Each ends in a transaction of its own: ends of several jobs of one account in one would lock out of order. Call it
    without a transaction. Raises AppError as `remove_films` does.
    """
    require_role(actor, Role.OPERATOR)
    with transaction() as session:
        _open_report(session, report_id, reason)
        wanted = _check_films(session, film_ids)
    for film_id in wanted:
        with transaction() as session:
            job = session.scalar(select(Job).where(Job.id == film_id).with_for_update())
            if job is not None and not is_final(job.state):
                fail(session, job, code="content_refused", message=REMOVED_MESSAGE)
                record_action(session, actor, "report.film_ended", film_id, report=report_id, reason=reason)


def remove_films(session: Session, actor: Actor, report_id: str, film_ids: Iterable[str], *, reason: str) -> None:
    """Remove films after a report: from their owners' lists and all links at once, their files a moment later.

    Uploads of the same files are deleted, and the files may not be uploaded again. Each owner gets the event
    `video.removed`. Money that was charged stays charged; an operator may refund it.

    Raises AppError `forbidden`, `not_found`, `invalid_request` without a film, `conflict` for a decided report and a
    film that is still being made: `stop_films` ends it.
    """
    require_role(actor, Role.OPERATOR)
    report = _open_report(session, report_id, reason)
    wanted = _check_films(session, film_ids)
    for job in session.scalars(select(Job).where(Job.id.in_(wanted)).order_by(Job.id).with_for_update()).all():
        _remove(session, job, report)
    _close(session, actor, report, ReportState.REMOVED, reason)
    report.removed_films = wanted
    record_action(session, actor, "report.removed", report.id, films=wanted, category=report.category, reason=reason)


def keep_film(session: Session, actor: Actor, report_id: str, *, reason: str) -> None:
    """Close a report without removing anything. Raises AppError `forbidden`, `not_found`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    report = _open_report(session, report_id, reason)
    _close(session, actor, report, ReportState.KEPT, reason)
    record_action(session, actor, "report.kept", report.id, category=report.category, reason=reason)


def _check_films(session: Session, film_ids: Iterable[str]) -> list[str]:
    """Return the ids, each once and in order. Raises AppError `invalid_request` for none or too many, `not_found`."""
    wanted = sorted(set(film_ids))
    if not 0 < len(wanted) <= COPIES_MAX + 1:
        raise AppError("invalid_request", f"Choose one to {COPIES_MAX + 1} films to remove.", field="films")
    missing = sorted(set(wanted).difference(session.scalars(select(Job.id).where(Job.id.in_(wanted)))))
    if missing:
        raise AppError("not_found", "There is no film with this id.", field="films", noun="video", id=missing[0])
    return wanted


def _open_report(session: Session, report_id: str, reason: str) -> ContentReport:
    report = find_report(session, report_id, lock=True)
    if report.state != ReportState.OPEN:
        raise AppError("conflict", "This report was decided already.", state=report.state)
    if not reason.strip():
        raise AppError("invalid_request", "Say why: the log of takedowns keeps the reason.", field="reason")
    return report


def _close(session: Session, actor: Actor, report: ContentReport, state: ReportState, reason: str) -> None:
    # The database wants state and time together, and reading the time writes what is set before it.
    moment = now(session)
    report.state, report.reason = state, reason.strip()
    report.decided_at, report.decided_by = moment, actor.person


def _remove(session: Session, job: Job, report: ContentReport) -> None:
    moment = now(session)
    if not is_final(job.state):
        raise AppError("conflict", "This film is still being made; end it first.", video=job.id, state=job.state)
    if job.deleted_at is None:
        job.deleted_at = job.files_expire_at = moment
    # A film that got its marks later had another file before, which may have been downloaded.
    for sha256 in dict.fromkeys([*file_hashes(session, job.id), *_own_hash(job)]):
        blocked = insert(BlockedFile).values(sha256=sha256, film_id=job.id, report_id=report.id, blocked_at=moment)
        session.execute(blocked.on_conflict_do_nothing())
        delete_copies(session, sha256)
    # A film may be reported again; its owner is told once.
    if session.scalar(select(Event.id).where(Event.job_id == job.id, Event.type == "video.removed")) is None:
        _notify_owner(session, job, report)


def _own_hash(job: Job) -> list[str]:
    return [job.film["sha256"]] if job.film and "sha256" in job.film else []


def _notify_owner(session: Session, job: Job, report: ContentReport) -> None:
    reason = CATEGORIES[report.category].label
    data = {"id": job.id, "object": "video", "category": report.category, "reason": reason, "test": job.test}
    event = record_event(
        session,
        account_id=job.account_id,
        project_id=job.project_id,
        job_id=job.id,
        type="video.removed",
        data=data,
        test=job.test,
    )
    fan_out(session, event)
