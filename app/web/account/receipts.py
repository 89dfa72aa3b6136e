"""Receipts of an account, and its monthly statements, as pages, PDF and CSV."""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.accounts.billing_periods import billing_month
from app.clock import now
from app.errors import not_found
from app.jobs.tables import Job, ReceiptRow
from app.reports.receipt_pages import receipt_document, receipt_pdf
from app.reports.statement_csv import write_csv
from app.reports.statement_pdf import statement_pdf
from app.reports.statements import Statement, make_statement, project_names
from app.reports.translations import Language
from app.web.auth import OwnerDep, SessionDep, Visitor
from app.web.language import gettext
from app.web.render import download, page
from app.web.studio.film_history import refunded_amounts

router = APIRouter(include_in_schema=False)

PAGE = 30
MONTHS_SHOWN = 12

Month = Annotated[str | None, Query(max_length=7)]
Project = Annotated[str, Query(max_length=64)]


@router.get("/account/receipts")
def show_receipts(
    request: Request,
    session: SessionDep,
    visitor: OwnerDep,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the receipts, newest first."""
    query = (
        select(ReceiptRow, Job.prompt, Job.deleted_at)
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(ReceiptRow.account_id == visitor.caller.account_id, Job.test == visitor.test)
        .order_by(ReceiptRow.settled_at.desc(), ReceiptRow.job_id.desc())
    )
    last = session.get(ReceiptRow, after) if after else None
    if last is not None and last.account_id == visitor.caller.account_id:
        query = query.where(tuple_(ReceiptRow.settled_at, ReceiptRow.job_id) < (last.settled_at, last.job_id))
    rows = session.execute(query.limit(PAGE + 1)).all()
    refunded = refunded_amounts(session, (row.job_id for row, _, _ in rows[:PAGE]))
    receipts = [
        {
            "number": row.number,
            "job_id": row.job_id,
            "prompt": prompt.partition("\n")[0],
            "is_deleted": deleted_at is not None,
            "outcome": row.outcome,
            "quoted": row.quoted,
            "total": row.total,
            "refunded": refunded.get(row.job_id, 0),
            "currency": row.currency,
            "settled_at": row.settled_at,
        }
        for row, prompt, deleted_at in rows[:PAGE]
    ]
    more = receipts[-1]["job_id"] if len(rows) > PAGE else None
    return page(request, "account/receipts.html", title=gettext("Receipts"), receipts=receipts, more=more)


@router.get("/account/receipts/{job_id}.pdf")
def send_receipt(session: SessionDep, visitor: OwnerDep, job_id: str, language: Language = "en") -> Response:
    """Send a receipt as PDF; the receipt of a deleted film too. Raises AppError `not_found`."""
    row = session.get(ReceiptRow, job_id)
    if row is None or row.account_id != visitor.caller.account_id or row.test != visitor.test:
        raise not_found("receipt", job_id)
    body = receipt_pdf(receipt_document(session, job_id, language))
    return download(body, f"cinemeter-receipt-{row.number}.pdf", "application/pdf")


@router.get("/account/statements")
def show_statements(
    request: Request, session: SessionDep, visitor: OwnerDep, month: Month = None, project: Project = ""
) -> Response:
    """Show the statement of one billing month, of all projects or of one: films and wallet movements."""
    statement = _statement(session, visitor, month, project)
    context: dict[str, Any] = {
        "statement": statement,
        "months": _months(visitor.billing_zone, now(session)),
        "projects": project_names(session, visitor.caller.account_id),
        "query": urlencode({"month": statement.month, "project": project}),
    }
    return page(request, "account/statements.html", title=gettext("Statements"), **context)


@router.get("/account/statements.csv")
def send_statement_csv(
    session: SessionDep, visitor: OwnerDep, month: Month = None, project: Project = "", language: Language = "en"
) -> Response:
    """Send the films of a month as CSV."""
    statement = _statement(session, visitor, month, project)
    body = write_csv(session, statement, language).encode()
    return download(body, f"cinemeter-{statement.month}.csv", "text/csv; charset=utf-8")


@router.get("/account/statements.pdf")
def send_statement_pdf(
    session: SessionDep, visitor: OwnerDep, month: Month = None, project: Project = "", language: Language = "en"
) -> Response:
    """Send the statement of a month as PDF."""
    statement = _statement(session, visitor, month, project)
    return download(statement_pdf(statement, language), f"cinemeter-{statement.month}.pdf", "application/pdf")


def _statement(session: Session, visitor: Visitor, month: str | None, project: str) -> Statement:
    billed_month = month or billing_month(visitor.billing_zone, now(session))
    return make_statement(session, visitor.caller.account_id, billed_month, project or None)


def _months(zone: str, at: datetime) -> list[str]:
    """Return the last billing months (`YYYY-MM`), the current one first."""
    months = [billing_month(zone, at)]
    while len(months) < MONTHS_SHOWN:
        year, index = (int(part) for part in months[-1].split("-"))
        months.append(f"{year - (index == 1)}-{(index - 2) % 12 + 1:02d}")
    return months
