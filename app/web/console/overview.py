"""The console's overview: revenue, delivered seconds and GPU use by day, waiting times, failures, workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from app.clock import now
from app.jobs.intake import list_pauses
from app.prices.find import book_at
from app.reports.service_overview import DayFigures, count_workers, read_days, read_failures, read_queue
from app.reports.workers import list_worker_rows, read_pool_queues, standing_queues
from app.web.auth import AdminDep, SessionDep
from app.web.charts import HALF_WIDTH, Chart, bar_chart, shares
from app.web.formats import count, minor, month_day, seconds
from app.web.language import gettext
from app.web.render import page
from pricing.money import minor_per_major

router = APIRouter(include_in_schema=False)

SPANS = (7, 30, 90)


@router.get("/admin")
def show_overview(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Response:
    """Show the figures of the whole service for the last days."""
    moment, zone = now(session), ZoneInfo(visitor.zone)
    currency = book_at(session, moment).book.currency
    today = moment.astimezone(zone).date()
    calendar = [today - timedelta(days=back) for back in reversed(range(days))]
    by_date = read_days(session, calendar[0] - timedelta(days=days), zone)
    rows = [(month_day(day), by_date.get(day, DayFigures())) for day in calendar]
    earlier = [figures for day, figures in by_date.items() if day < calendar[0]]
    period = _period([figures for _, figures in rows], currency)
    context: dict[str, Any] = {
        "days": days,
        "spans": SPANS,
        "currency": currency,
        "period": period,
        "previous": _period(earlier, currency),
        # A day's films are those that were ordered up to its end, the newest first.
        "films_of_day": [f"/admin/films?until={day}" for day in calendar],
        **_charts(rows, currency),
        "queue": read_queue(session, moment),
        "failures": shares(
            [(code, number, count(number, "film")) for code, number in read_failures(session, calendar[0], zone)]
        ),
        "workers": count_workers(session),
        "standing": standing_queues(list_worker_rows(session), read_pool_queues(session, set())),
        "pauses": [
            {"reason": each.reason, "model": each.model, "account": each.account_id} for each in list_pauses(session)
        ],
    }
    return page(request, "console/overview.html", title=gettext("Console"), **context)


def _charts(rows: Sequence[tuple[str, DayFigures]], currency: str) -> dict[str, Chart]:
    """Return the charts of the days, each with an axis."""
    # Charges are never below zero; the sum of a day's charges and refunds may be.
    charged = [(name, day.charged, minor(day.charged, currency)) for name, day in rows]
    delivered = [(name, day.seconds, seconds(day.seconds)) for name, day in rows]
    gpu = [(name, day.gpu_seconds, seconds(round(day.gpu_seconds, 1))) for name, day in rows]
    return {
        "by_charged": bar_chart(charged, tick_text=lambda value: minor(value, currency)),
        "by_seconds": bar_chart(delivered, width=HALF_WIDTH, tick_text=seconds),
        "by_gpu": bar_chart(gpu, width=HALF_WIDTH, tick_text=seconds),
    }


@dataclass(frozen=True)
class _Period:
    """Sums over the days of a period; money in minor units."""

    charged: int
    refunded: int
    films: int
    seconds: Decimal
    gpu_seconds: Decimal
    cost: int

    @property
    def revenue(self) -> int:
        return self.charged - self.refunded

    @property
    def margin(self) -> int:
        return self.revenue - self.cost


def _period(days: Sequence[DayFigures], currency: str) -> _Period:
    gpu_seconds = sum((day.gpu_seconds for day in days), Decimal(0))
    return _Period(
        charged=sum(day.charged for day in days),
        refunded=sum(day.refunded for day in days),
        films=sum(day.films for day in days),
        seconds=sum((day.seconds for day in days), Decimal(0)),
        gpu_seconds=gpu_seconds,
        cost=int(sum((day.gpu_cost for day in days), Decimal(0)) * minor_per_major(currency)),
    )
