"""Usage: delivered seconds and charges by day, project and model, as charts."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from fractions import Fraction
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.clock import now
from app.reports.statements import project_names
from app.reports.translations import decimals
from app.reports.usage import DAYS_MAX, UsageRow, read_usage
from app.web.auth import OwnerDep, SessionDep, Visitor
from app.web.charts import bar_chart, shares
from app.web.formats import minor, month_day, seconds
from app.web.language import gettext
from app.web.render import download_csv, page
from pricing.money import Money

router = APIRouter(include_in_schema=False)

SPANS = (7, 30, 90)
COLUMNS = ("day", "project", "model", "films", "seconds", "list_price", "charged", "currency")

Days = Annotated[int, Query(ge=1, le=DAYS_MAX)]


@router.get("/account/usage")
def show_usage(request: Request, session: SessionDep, visitor: OwnerDep, days: Days = 30) -> Response:
    """Show the usage of the last days."""
    first, rows = _usage(session, visitor, days)
    names = project_names(session, visitor.caller.account_id)
    sums = {
        "day": _sums(rows, lambda row: row.day),
        "project": _sums(rows, lambda row: names.get(row.project_id or "", gettext("No project"))),
        "model": _sums(rows, lambda row: row.model),
    }
    calendar = [first + timedelta(days=number) for number in range(days)]
    by_day = [(month_day(day), *sums["day"].get(day, (Fraction(0), 0))) for day in calendar]

    def money(total: int) -> str:
        return minor(total, visitor.currency)

    context: dict[str, Any] = {
        "days": days,
        "spans": SPANS,
        "films": sum(row.videos for row in rows),
        "seconds": decimals(sum((row.seconds for row in rows), Fraction(0))),
        "total": sum(row.total for row in rows),
        "by_seconds": bar_chart([(day, length, _seconds_text(length)) for day, length, _ in by_day]),
        "by_money": bar_chart([(day, total, money(total)) for day, _, total in by_day]),
        "parts": _parts(sums, visitor.currency),
    }
    return page(request, "account/usage.html", title=gettext("Usage"), **context)


def _parts(
    sums: dict[str, dict[Any, tuple[Fraction, int]]], currency: str
) -> list[tuple[str, list[dict[str, object]]]]:
    """Return the charts by project and model: charges and delivered seconds, each with its title."""
    titles = {
        "project": (gettext("Charged by project"), gettext("Delivered by project")),
        "model": (gettext("Charged by model"), gettext("Delivered by model")),
    }
    parts = []
    for each, (charged, delivered) in titles.items():
        rows = sums[each].items()
        parts.append((charged, shares([(name, total, minor(total, currency)) for name, (_, total) in rows])))
        parts.append((delivered, shares([(name, length, _seconds_text(length)) for name, (length, _) in rows])))
    return parts


@router.get("/account/usage.csv")
def send_usage(session: SessionDep, visitor: OwnerDep, days: Days = 30) -> Response:
    """Send the usage of the last days as CSV (RFC 4180): a line for each day, project and model."""
    first, rows = _usage(session, visitor, days)
    names = project_names(session, visitor.caller.account_id)
    cells = (
        (
            row.day,
            names.get(row.project_id or "", ""),
            row.model,
            row.videos,
            decimals(row.seconds),
            Money(row.list_total, visitor.currency).text,
            Money(row.total, visitor.currency).text,
            visitor.currency,
        )
        for row in rows
    )
    return download_csv(f"cinemeter-usage-{first}.csv", COLUMNS, cells)


def _usage(session: Session, visitor: Visitor, days: int) -> tuple[date, list[UsageRow]]:
    """Return the first of the last days, today included, and the usage of them by day."""
    today = now(session).astimezone(ZoneInfo(visitor.billing_zone)).date()
    first = today - timedelta(days=days - 1)
    return first, read_usage(session, visitor.caller.account_id, first=first, last=today, test=visitor.test)


def _sums(rows: Sequence[UsageRow], key: Callable[[UsageRow], Any]) -> dict[Any, tuple[Fraction, int]]:
    """Return the summed seconds and charges (minor units) of the rows by key."""
    sums: dict[Any, tuple[Fraction, int]] = {}
    for row in rows:
        length, total = sums.get(key(row), (Fraction(0), 0))
        sums[key(row)] = (length + row.seconds, total + row.total)
    return sums


def _seconds_text(number: Fraction) -> str:
    return seconds(decimals(number))
