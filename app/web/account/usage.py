"""Usage: delivered seconds and money by day, project and model."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Numeric, cast, func, select
from sqlalchemy.orm import Session

from app.accounts.tables import Project
from app.clock import now
from app.jobs.tables import Job, ReceiptRow
from app.web.charts import bar_chart, shares
from app.web.formats import minor, seconds
from app.web.render import page
from app.web.visitor import OwnerDep, SessionDep

router = APIRouter(include_in_schema=False)

SPANS = (7, 30, 90)


class Use(NamedTuple):
    """What was delivered and charged on one day, for one project and model."""

    day: date
    project_id: str | None
    model: str
    films: int
    seconds: Decimal
    total: int


@router.get("/account/usage")
def show_usage(
    request: Request,
    session: SessionDep,
    visitor: OwnerDep,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Response:
    """Show the usage of the last days."""
    zone, currency = ZoneInfo(visitor.zone), visitor.currency
    today = now(session).astimezone(zone).date()
    first = today - timedelta(days=days - 1)
    rows = usage_since(session, visitor.caller.account_id, first, zone, test=visitor.test)
    calendar = [first + timedelta(days=number) for number in range(days)]
    names = {
        each.id: each.name
        for each in session.scalars(select(Project).where(Project.account_id == visitor.caller.account_id))
    }
    projects = _sums(rows, lambda row: names.get(row.project_id or "", "Without a project"))
    models = _sums(rows, lambda row: row.model)
    by_day = _sums(rows, lambda row: row.day)
    none = (Decimal(0), 0)
    context: dict[str, Any] = {
        "days": days,
        "spans": SPANS,
        "films": sum(row.films for row in rows),
        "seconds": sum((row.seconds for row in rows), Decimal(0)),
        "total": sum(row.total for row in rows),
        "by_seconds": bar_chart(
            [(_name(day), by_day.get(day, none)[0], seconds(by_day.get(day, none)[0])) for day in calendar]
        ),
        "by_money": bar_chart(
            [(_name(day), by_day.get(day, none)[1], minor(by_day.get(day, none)[1], currency)) for day in calendar]
        ),
        "projects": shares([(name, total, minor(total, currency)) for name, (_, total) in projects.items()]),
        "models": shares([(name, length, seconds(length)) for name, (length, _) in models.items()]),
    }
    return page(request, "account/usage.html", title="Usage", **context)


def usage_since(session: Session, account_id: str, first: date, zone: ZoneInfo, *, test: bool) -> list[Use]:
    """Return what was delivered and charged from the day `first` on, by the moment of settlement."""
    day = func.date(func.timezone(str(zone), ReceiptRow.settled_at))
    frames = cast(Job.film["frames"].astext, Numeric)
    length = func.sum(func.coalesce(frames / cast(Job.spec["fps"].astext, Numeric), 0))
    begins = datetime(first.year, first.month, first.day, tzinfo=zone)
    query = (
        select(day, ReceiptRow.project_id, Job.model, func.count(), length, func.sum(ReceiptRow.total))
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(ReceiptRow.account_id == account_id, Job.test == test, ReceiptRow.settled_at >= begins)
        .group_by(day, ReceiptRow.project_id, Job.model)
    )
    return [
        Use(day, project_id, model, films, Decimal(seconds_), 0 if test else int(total))
        for day, project_id, model, films, seconds_, total in session.execute(query)
    ]


def _sums(rows: Sequence[Use], key: Any) -> dict[Any, tuple[Decimal, int]]:
    sums: dict[Any, tuple[Decimal, int]] = {}
    for row in rows:
        length, total = sums.get(key(row), (Decimal(0), 0))
        sums[key(row)] = (length + row.seconds, total + row.total)
    return sums


def _name(day: date) -> str:
    return f"{day.day} {day:%b}"
