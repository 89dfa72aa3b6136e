"""The desk of reports: films that somebody reported, the clock of each, and the log of decisions."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.clock import now
from app.db import commit_early
from app.errors import AppError
from app.jobs.tables import Job
from app.reports.display_names import display_names
from app.roles import Role
from app.takedowns.categories import CATEGORIES
from app.takedowns.decide import COPIES_MAX, find_copies, keep_film, remove_films, stop_films
from app.takedowns.reports import decided_reports, find_report, open_reports
from app.takedowns.tables import ContentReport, ReportSender, ReportState
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor, text_of, texts_of
from app.web.forms import NO_FORM, SubmittedForm
from app.web.language import gettext
from app.web.render import download_csv, page, redirect

router = APIRouter(prefix="/admin/reports", include_in_schema=False)

PAGE = 50
# Reports without a film of this service come after all others, so that a flood of them hides none.
WAITING_MAX = 200
EXPORT_MAX = 100_000
COLUMNS = ("report", "category", "received_at", "due_at", "state", "decided_at", "hours", "films", "reason")


@router.get("")
def show_reports(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    before: Annotated[datetime | None, Query()] = None,
    last: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the reports that wait, the most urgent first, and those that were decided."""
    decided = decided_reports(session, limit=PAGE + 1, before=(before, last) if before else None)
    waiting = [] if before else open_reports(session, limit=WAITING_MAX + 1)
    return page(
        request,
        "console/content_reports.html",
        title=gettext("Reports"),
        waiting=waiting[:WAITING_MAX],
        more_wait=len(waiting) > WAITING_MAX,
        decided=decided[:PAGE],
        more=decided[PAGE - 1] if len(decided) > PAGE else None,
        categories=CATEGORIES,
        now=now(session),
    )


# Before the page of one report, whose path it would match.
@router.get("/log.csv")
def send_log(session: SessionDep, visitor: AdminDep) -> Response:
    """Send the log of takedowns as CSV, newest first. It holds nothing personal of those who reported."""
    reports = decided_reports(session, limit=EXPORT_MAX)
    return download_csv("takedowns.csv", COLUMNS, map(_cells, reports))


@router.get("/{report_id}")
def show_report(request: Request, session: SessionDep, visitor: AdminDep, report_id: str) -> Response:
    """Show a report with the film that it leads to and that film's copies."""
    return _report(request, session, visitor, report_id)


@router.post("/{report_id}/removal")
def post_removal(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, report_id: str
) -> Response:
    """Remove the chosen films."""
    actor, reason = Actor.of(visitor.caller), text_of(form, "reason")
    film_ids = [*texts_of(form, "films"), *text_of(form, "other_films").split()]
    commit_early(session)
    try:
        stop_films(actor, report_id, film_ids, reason=reason)
        with session.begin_nested():
            remove_films(session, actor, report_id, film_ids, reason=reason)
    except AppError as error:
        return _report(request, session, visitor, report_id, error=error, form=SubmittedForm(form))
    return redirect(request, f"/admin/reports/{report_id}")


@router.post("/{report_id}/closure")
def post_closure(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, report_id: str
) -> Response:
    """Close a report; the film stays."""
    try:
        with session.begin_nested():
            keep_film(session, Actor.of(visitor.caller), report_id, reason=text_of(form, "reason"))
    except AppError as error:
        return _report(request, session, visitor, report_id, error=error, form=SubmittedForm(form))
    return redirect(request, f"/admin/reports/{report_id}")


def _report(
    request: Request,
    session: Session,
    visitor: Visitor,
    report_id: str,
    *,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    report = find_report(session, report_id)
    film_ids = report.removed_films
    if report.state == ReportState.OPEN and report.film_id is not None:
        film_ids = [report.film_id, *find_copies(session, report.film_id)]
    context: dict[str, Any] = {
        "report": report,
        "sender": session.get(ReportSender, report_id),
        "category": CATEGORIES[report.category],
        "films": _films(session, film_ids),
        "decided_by": display_names(session, [report.decided_by]).get(report.decided_by or "", report.decided_by),
        "may_be_cut": len(film_ids) > COPIES_MAX,
        "may_act": Role.OPERATOR in visitor.roles,
        "error": error,
        "form": form,
        "now": now(session),
    }
    return page(
        request,
        "console/content_report.html",
        status=error.status if error else 200,
        title=gettext("Report"),
        **context,
    )


def _films(session: Session, film_ids: list[str]) -> list[dict[str, Any]]:
    """Return what the desk shows of films, in their order; one that only the registry knows has no account."""
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(film_ids)))}
    names = display_names(session, [job.account_id for job in jobs.values()])
    return [
        {
            "id": film_id,
            "prompt": jobs[film_id].prompt.partition("\n")[0] if film_id in jobs else "",
            "account": names.get(jobs[film_id].account_id, "") if film_id in jobs else "",
            "is_deleted": film_id in jobs and jobs[film_id].deleted_at is not None,
            "has_job": film_id in jobs,
        }
        for film_id in film_ids
    ]


def _cells(report: ContentReport) -> tuple[object, ...]:
    taken = None if report.decided_at is None else (report.decided_at - report.created_at) / timedelta(hours=1)
    times = (each and each.isoformat(timespec="seconds") for each in (report.created_at, report.due_at))
    decided_at = report.decided_at and report.decided_at.isoformat(timespec="seconds")
    hours = "" if taken is None else f"{taken:.2f}"
    films = " ".join(report.removed_films)
    return (report.id, report.category, *times, report.state, decided_at, hours, films, report.reason)
