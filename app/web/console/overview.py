"""The overview: money, seconds and GPUs by day, how long films wait, and what fails."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Numeric, cast, func, select
from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.intake import list_pauses
from app.jobs.queue_tables import Take, Unit, Worker
from app.jobs.tables import Job, ReceiptRow
from app.prices.find import book_at
from app.settings import get_settings
from app.wallet.tables import Transfer, TransferKind
from app.web.auth import AdminDep, SessionDep
from app.web.charts import HALF_WIDTH, bar_chart, shares
from app.web.formats import count, minor, seconds
from app.web.render import page
from pricing.money import minor_per_major

router = APIRouter(include_in_schema=False)

SPANS = (7, 30, 90)
CLASSES = {0: "Priority", 1: "Standard", 2: "Flex"}
# How films of the last day waited is what says how they wait now.
WAITS_OF = timedelta(days=1)


class Day(NamedTuple):
    """What one day brought and cost. Money is in minor units of the book's currency."""

    charged: int = 0
    refunded: int = 0  # on this day, whenever the film was charged
    films: int = 0
    seconds: Decimal = Decimal(0)
    gpu_seconds: Decimal = Decimal(0)


@router.get("/admin")
def show_overview(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Response:
    """Show how the service does."""
    moment, zone = now(session), ZoneInfo(visitor.zone)
    currency = book_at(session, moment).book.currency
    today = moment.astimezone(zone).date()
    calendar = [today - timedelta(days=back) for back in reversed(range(days))]
    found = read_days(session, calendar[0], zone)
    rows = [(f"{day.day} {day:%b}", found.get(day, Day())) for day in calendar]
    charged, refunded = sum(day.charged for _, day in rows), sum(day.refunded for _, day in rows)
    revenue = charged - refunded
    gpu_seconds = sum((day.gpu_seconds for _, day in rows), Decimal(0))
    cost = int(gpu_seconds * Decimal(get_settings().gpu_second_cost) * minor_per_major(currency))
    context: dict[str, Any] = {
        "days": days,
        "spans": SPANS,
        "currency": currency,
        "charged": charged,
        "refunded": refunded,
        "revenue": revenue,
        "cost": cost,
        "margin": revenue - cost,
        "films": sum(day.films for _, day in rows),
        "seconds": sum((day.seconds for _, day in rows), Decimal(0)),
        "gpu_seconds": gpu_seconds,
        # Charges are never below zero; the sum of a day's charges and refunds may be.
        "by_charged": bar_chart([(name, day.charged, minor(day.charged, currency)) for name, day in rows]),
        "by_seconds": bar_chart([(name, day.seconds, seconds(day.seconds)) for name, day in rows], width=HALF_WIDTH),
        "by_gpu": bar_chart(
            [(name, day.gpu_seconds, seconds(round(day.gpu_seconds, 1))) for name, day in rows], width=HALF_WIDTH
        ),
        "queue": _queue(session, moment),
        "failures": shares(
            [(code, number, count(number, "film")) for code, number in _failures(session, calendar[0], zone)]
        ),
        "workers": _workers(session),
        "pauses": [
            {"reason": each.reason, "model": each.model, "account": each.account_id} for each in list_pauses(session)
        ],
    }
    return page(request, "console/overview.html", title="Console", **context)


def read_days(session: Session, first: date, zone: ZoneInfo) -> dict[date, Day]:
    """Return what each day brought (by the moment of settlement), gave back (by the moment of the refund) and cost (by
    the end of takes), tests left out."""
    begins = datetime(first.year, first.month, first.day, tzinfo=zone)
    day = func.date(func.timezone(str(zone), ReceiptRow.settled_at))
    length = cast(Job.film["frames"].astext, Numeric) / cast(Job.spec["fps"].astext, Numeric)
    earned = session.execute(
        select(day, func.sum(ReceiptRow.total), func.count(), func.sum(func.coalesce(length, 0)))
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(Job.test.is_(False), ReceiptRow.settled_at >= begins)
        .group_by(day)
    )
    found = {each: Day(int(total), 0, films, Decimal(made)) for each, total, films, made in earned}
    returned = func.date(func.timezone(str(zone), Transfer.at))
    refunds = session.execute(
        select(returned, func.sum(Transfer.amount))
        .where(Transfer.kind == str(TransferKind.REFUND), Transfer.at >= begins)
        .group_by(returned)
    )
    for each, amount in refunds:
        found[each] = found.get(each, Day())._replace(refunded=int(amount))
    ended = func.date(func.timezone(str(zone), Take.ended_at))
    spent = session.execute(
        select(ended, func.sum(Take.gpu_seconds))
        .join(Job, Job.id == Take.job_id)
        .where(Take.ended_at >= begins, Job.test.is_(False))
        .group_by(ended)
    )
    for each, gpu_seconds in spent:
        found[each] = found.get(each, Day())._replace(gpu_seconds=Decimal(gpu_seconds))
    return found


def _queue(session: Session, moment: datetime) -> list[dict[str, Any]]:
    """Return, per class of the fair order, what waits now and how long the last day's films waited."""
    ready = dict(
        session.execute(
            select(Unit.priority, func.count())
            .where(Unit.state == "ready", Unit.kind == "segment")
            .group_by(Unit.priority)
        ).all()
    )
    oldest = dict(
        session.execute(
            select(Unit.priority, func.min(Unit.queued_at))
            .where(Unit.state == "ready", Unit.kind == "segment")
            .group_by(Unit.priority)
        ).all()
    )
    waits = _waits(session, moment)
    return [
        {
            "title": title,
            "waiting": ready.get(priority, 0),
            "oldest_seconds": int((moment - oldest[priority]).total_seconds()) if priority in oldest else None,
            **waits.get(title.lower(), {"half": None, "most": None, "films": 0}),
        }
        for priority, title in CLASSES.items()
    ]


def _waits(session: Session, moment: datetime) -> dict[str, dict[str, Any]]:
    waited = func.extract("epoch", Job.started_at - Job.created_at)
    tier = Job.spec["service_tier"].astext
    rows = session.execute(
        select(
            tier,
            func.count(),
            func.percentile_cont(0.5).within_group(waited.asc()),
            func.percentile_cont(0.95).within_group(waited.asc()),
        )
        .where(Job.started_at.is_not(None), Job.created_at >= moment - WAITS_OF, Job.test.is_(False))
        .group_by(tier)
    )
    return {name: {"films": films, "half": round(half), "most": round(most)} for name, films, half, most in rows}


def _failures(session: Session, first: date, zone: ZoneInfo) -> list[tuple[str, int]]:
    begins = datetime(first.year, first.month, first.day, tzinfo=zone)
    rows = session.execute(
        select(Job.error_code, func.count())
        .where(Job.state == "failed", Job.finished_at >= begins, Job.test.is_(False))
        .group_by(Job.error_code)
    )
    return [(code or "unknown", number) for code, number in rows]


def _workers(session: Session) -> dict[str, int]:
    """Return how many workers there are in each state, without those that have gone."""
    rows = session.execute(select(Worker.state, func.count()).where(Worker.state != "gone").group_by(Worker.state))
    return dict(rows.all())
