"""Decide a report: remove the film and its copies, or keep it."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError
from app.events.record import record_event
from app.jobs.cancel import request_cancel
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.provenance.blocked_tables import BlockedFile
from app.provenance.registry import find_films
from app.provenance.registry_tables import RegistryFilm
from app.roles import Role, require_role
from app.takedowns.categories import CATEGORIES
from app.takedowns.reports import find_report
from app.takedowns.tables import ContentReport, ReportState
from app.webhooks.fanout import fan_out

# Films that can be removed by one decision.
FILMS_MAX = 50


def find_copies(session: Session, film_id: str) -> list[str]:
    """Return the ids of other films that are the same file, look like it, or are made of its shots."""
    row = session.get(RegistryFilm, film_id)
    if row is None:
        return []
    mark_ids = [] if row.mark_id is None else [row.mark_id]
    alike = find_films(session, sha256=row.sha256, mark_ids=mark_ids, frame_hashes=row.frame_hashes)
    reusing = session.scalars(
        select(RegistryFilm.film_id).where(
            RegistryFilm.account_id == row.account_id, RegistryFilm.reused_films.contains([film_id])
        )
    )
    found = dict.fromkeys([*alike.same_file, *reusing, *alike.watermarked, *alike.similar])
    return [each for each in found if each != film_id][: FILMS_MAX - 1]


def remove_films(session: Session, actor: Actor, report_id: str, film_ids: Iterable[str], *, reason: str) -> None:
    """Remove films after a report: from their owners' lists and all links at once, their files a moment later.

    The files may not be uploaded again, and each owner gets the event `video.removed`. A film that is still being made
    is cancelled first. Money that was charged stays charged; an operator may refund it.

    Raises AppError `forbidden`, `not_found`, `invalid_request` without a film, `conflict` for a decided report,
    `too_late` while a film is being joined.
    """
    require_role(actor, Role.OPERATOR)
    report = _open_report(session, report_id, reason)
    wanted = sorted(set(film_ids))
    if not 0 < len(wanted) <= FILMS_MAX:
        raise AppError("invalid_request", f"Choose one to {FILMS_MAX} films to remove.", field="films")
    jobs = session.scalars(select(Job).where(Job.id.in_(wanted)).order_by(Job.id).with_for_update()).all()
    missing = sorted(set(wanted) - {job.id for job in jobs})
    if missing:
        raise AppError("not_found", "There is no film with this id.", field="films", noun="video", id=missing[0])
    for job in jobs:
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


def _open_report(session: Session, report_id: str, reason: str) -> ContentReport:
    report = find_report(session, report_id, lock=True)
    if report.state != ReportState.OPEN:
        raise AppError("conflict", "This report was decided already.", state=report.state)
    if not reason.strip():
        raise AppError("invalid_request", "Say why: the log of takedowns keeps the reason.", field="reason")
    return report


def _close(session: Session, actor: Actor, report: ContentReport, state: ReportState, reason: str) -> None:
    report.state, report.reason = state, reason.strip()
    report.decided_at, report.decided_by = now(session), actor.person


def _remove(session: Session, job: Job, report: ContentReport) -> None:
    moment = now(session)
    if not is_final(job.state):
        request_cancel(session, job)
        if not is_final(job.state):
            raise AppError("too_late", "This film is being joined; remove it in a minute.", video=job.id)
    if job.deleted_at is None:
        job.deleted_at = job.files_expire_at = moment
    sha256 = (job.film or {}).get("sha256")
    if sha256:
        blocked = insert(BlockedFile).values(sha256=sha256, film_id=job.id, report_id=report.id, blocked_at=moment)
        session.execute(blocked.on_conflict_do_nothing())
    data = {
        "id": job.id,
        "object": "video",
        "category": report.category,
        "reason": CATEGORIES[report.category].label,
        "test": job.test,
    }
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
