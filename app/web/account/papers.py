"""Papers: the receipts of an account, and its statements month by month."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import case, func, select, tuple_

from app.accounts.months import billing_month, month_window
from app.clock import now
from app.jobs.tables import Job, ReceiptRow
from app.wallet.tables import Transfer
from app.wallet.transfer import wallet_side
from app.web.render import page
from app.web.visitor import OwnerDep, SessionDep

router = APIRouter(include_in_schema=False)

PAGE = 30
MONTHS_SHOWN = 12


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
    receipts = [
        {
            "number": row.number,
            "job_id": row.job_id,
            "prompt": prompt.partition("\n")[0],
            "is_deleted": deleted_at is not None,
            "outcome": row.outcome,
            "quoted": row.quoted,
            "total": row.total,
            "currency": row.currency,
            "settled_at": row.settled_at,
        }
        for row, prompt, deleted_at in rows[:PAGE]
    ]
    more = receipts[-1]["job_id"] if len(rows) > PAGE else None
    return page(request, "account/receipts.html", title="Receipts", receipts=receipts, more=more)


@router.get("/account/statements")
def show_statements(
    request: Request,
    session: SessionDep,
    visitor: OwnerDep,
    month: Annotated[str | None, Query(max_length=7)] = None,
) -> Response:
    """Show the statement of one billing month: receipts by outcome and project, and every transfer by kind."""
    chosen = month or billing_month(visitor.zone, now(session))
    starts, ends = month_window(visitor.zone, chosen)
    account_id = visitor.caller.account_id
    films = session.execute(
        select(ReceiptRow.outcome, func.count(), func.sum(ReceiptRow.list_total), func.sum(ReceiptRow.total))
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(ReceiptRow.account_id == account_id, Job.test.is_(False))
        .where(ReceiptRow.settled_at >= starts, ReceiptRow.settled_at < ends)
        .group_by(ReceiptRow.outcome)
        .order_by(ReceiptRow.outcome)
    ).all()
    gave = Transfer.debit == wallet_side(account_id)
    moved = session.execute(
        select(Transfer.kind, func.count(), func.sum(case((gave, -Transfer.amount), else_=Transfer.amount)))
        .where(Transfer.account_id == account_id, Transfer.at >= starts, Transfer.at < ends)
        .group_by(Transfer.kind)
        .order_by(Transfer.kind)
    ).all()
    return page(
        request,
        "account/statements.html",
        title="Statements",
        month=chosen,
        months=_months(visitor.zone, now(session)),
        starts=starts,
        ends=ends,
        films=[
            {"outcome": outcome, "count": count, "list": int(listed), "total": int(total)}
            for outcome, count, listed, total in films
        ],
        moved=[{"kind": kind, "count": count, "amount": int(amount)} for kind, count, amount in moved],
    )


def _months(zone: str, at: datetime) -> list[str]:
    """Return the last billing months, this one first."""
    months = [billing_month(zone, at)]
    while len(months) < MONTHS_SHOWN:
        year, index = (int(part) for part in months[-1].split("-"))
        months.append(f"{year - (index == 1)}-{(index - 2) % 12 + 1:02d}")
    return months
