"""Report routes for customers: usage by day, statements by month, and receipts as HTML and PDF."""

from datetime import date, timedelta
from fractions import Fraction
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from app.accounts.billing_periods import billing_month
from app.accounts.caller import Caller
from app.api.access import BillingCaller, VideosCaller
from app.clock import now
from app.errors import AppError
from app.jobs.find import find_job
from app.reports.receipt_pages import receipt_document, receipt_html, receipt_pdf
from app.reports.statement_csv import write_csv
from app.reports.statement_pdf import statement_pdf
from app.reports.statements import make_statement
from app.reports.translations import Language, decimals
from app.reports.usage import read_usage
from app.request_session import SessionDep
from pricing.money import Money

router = APIRouter(prefix="/v1", tags=["billing"])

DEFAULT_DAYS = 30
# Requested days must lie in this range, far from the limits of Python's calendar.
DAY_MIN, DAY_MAX = date(2000, 1, 1), date(2999, 12, 31)

Project = Annotated[str | None, Query(max_length=64, description="Only this project. If omitted, all projects.")]
LanguageQuery = Annotated[Language, Query(description="The language of the document.")]


class UseOut(BaseModel):
    """The usage of one day, project and model."""

    day: date
    project: str | None
    model: str
    videos: int
    seconds: str
    gpu_seconds: str
    list_total: str
    total: str


class UsageOut(BaseModel):
    """Usage by day, project and model, with totals. Days are those of the account's billing zone."""

    object: Literal["usage"] = "usage"
    first: date
    last: date
    currency: str
    test: bool
    data: list[UseOut]
    videos: int
    seconds: str
    list_total: str
    total: str


@router.get("/usage")
def get_usage(
    session: SessionDep,
    caller: BillingCaller,
    first: date | None = None,
    last: date | None = None,
    project: Project = None,
) -> UsageOut:
    """Return billed seconds and charges by day, project and model; by default for the last 30 days."""
    for name, day in (("first", first), ("last", last)):
        if day is not None and not DAY_MIN <= day <= DAY_MAX:
            message = f"The date must be between {DAY_MIN} and {DAY_MAX}."
            raise AppError("invalid_request", message, field=name, value=day, allowed=[DAY_MIN, DAY_MAX])
    today = now(session).astimezone(ZoneInfo(caller.account.billing_zone)).date()
    end = last or today
    begin = first or end - timedelta(days=DEFAULT_DAYS - 1)
    scope = _project(caller, project)
    rows = read_usage(session, caller.account_id, first=begin, last=end, project_id=scope, test=caller.test)
    currency = caller.account.currency
    data = [
        UseOut(
            day=row.day,
            project=row.project_id,
            model=row.model,
            videos=row.videos,
            seconds=decimals(row.seconds),
            gpu_seconds=decimals(Fraction(row.gpu_milliseconds, 1000)),
            list_total=Money(row.list_total, currency).text,
            total=Money(row.total, currency).text,
        )
        for row in rows
    ]
    return UsageOut(
        first=begin,
        last=end,
        currency=currency,
        test=caller.test,
        data=data,
        videos=sum(row.videos for row in rows),
        seconds=decimals(sum((row.seconds for row in rows), Fraction(0))),
        list_total=Money(sum(row.list_total for row in rows), currency).text,
        total=Money(sum(row.total for row in rows), currency).text,
    )


_STATEMENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The statement", "content": {"text/csv": {}, "application/pdf": {}}},
}


@router.get("/statements", response_model=None, responses=_STATEMENT)
def get_statement(
    session: SessionDep,
    caller: BillingCaller,
    month: Annotated[
        str | None, Query(max_length=7, description="A billing month, such as 2026-05. Default: this month.")
    ] = None,
    project: Project = None,
    format: Literal["json", "csv", "pdf"] = "json",
    language: LanguageQuery = "en",
) -> Response | dict[str, Any]:
    """Return a month's statement as JSON, as CSV with one row per video, or as PDF."""
    period = month or billing_month(caller.account.billing_zone, now(session))
    statement = make_statement(session, caller.account_id, period, _project(caller, project))
    name = f"cinemeter-{statement.month}"
    if format == "csv":
        return _file(write_csv(session, statement, language).encode(), f"{name}.csv", "text/csv; charset=utf-8")
    if format == "pdf":
        return _file(statement_pdf(statement, language), f"{name}.pdf", "application/pdf")
    return statement.content()


@router.get(
    "/videos/{video_id}/receipt.html",
    response_class=Response,
    responses={200: {"description": "The receipt", "content": {"text/html": {}}}},
)
def get_video_receipt_html(
    session: SessionDep, caller: VideosCaller, video_id: str, language: LanguageQuery = "en"
) -> Response:
    """Return a video's receipt as HTML."""
    job = find_job(session, caller, video_id)
    html = receipt_html(receipt_document(session, job.id, language))
    return Response(html, media_type="text/html; charset=utf-8")


@router.get(
    "/videos/{video_id}/receipt.pdf",
    response_class=Response,
    responses={200: {"description": "The receipt", "content": {"application/pdf": {}}}},
)
def get_video_receipt_pdf(
    session: SessionDep, caller: VideosCaller, video_id: str, language: LanguageQuery = "en"
) -> Response:
    """Return a video's receipt as a PDF."""
    page = receipt_document(session, find_job(session, caller, video_id).id, language)
    return _file(receipt_pdf(page), f"cinemeter-receipt-{page.number}.pdf", "application/pdf")


def _project(caller: Caller, project_id: str | None) -> str | None:
    """Return the project to report on. A project's key may only read its own project."""
    if caller.project_id is not None and project_id not in (None, caller.project_id):
        raise AppError("forbidden", "This key belongs to another project.", field="project")
    return project_id or caller.project_id


def _file(content: bytes, name: str, kind: str) -> Response:
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
