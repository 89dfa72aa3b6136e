"""Figures of the whole service for operators: days, queues, waiting times, failures and workers."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.audit_sums import NEVER
from app.dispatch.service_figures import FIGURES, summed_until
from app.jobs.queue_tables import Unit, Worker
from app.jobs.tables import Job
from app.settings import get_settings

PRIORITY_TITLES = {0: "Priority", 1: "Standard", 2: "Flex"}
# Waiting times are those of the last day, so that they describe the present.
WAITS_SPAN = timedelta(days=1)


class DayFigures(NamedTuple):
    """The revenue, delivery and GPU use of one day. Money is in minor units of the book's currency."""

    charged: int = 0
    refunded: int = 0  # on this day, whenever the film was charged
    films: int = 0
    seconds: Decimal = Decimal(0)
    gpu_seconds: Decimal = Decimal(0)
    gpu_cost: Decimal = Decimal(0)  # of them, in whole units of the currency


class QueueFigures(NamedTuple):
    """The queue of one service tier: waiting segments, and waiting times in whole seconds."""

    title: str
    waiting: int
    oldest_seconds: int | None
    films: int  # started within the span of the waiting times
    wait_p50: int | None
    wait_p95: int | None


class WaitFigures(NamedTuple):
    """The films of a service tier that started, and how long they waited, in seconds."""

    films: int
    p50: int
    p95: int


# Figures of whole quarters from `:start` on, and those of the rows that no quarter has summed yet.
_SINCE = f"""
    SELECT starts_at, charged, refunded, films, seconds, gpu_seconds, gpu_cost, failed, error_code
    FROM service_figures WHERE starts_at >= :start
    UNION ALL SELECT * FROM ({FIGURES}) AS unsummed"""
_BY_DAY = text(f"""
    SELECT CAST(timezone(:zone, starts_at) AS date) AS day, sum(charged) AS charged, sum(refunded) AS refunded,
           sum(films) AS films, sum(seconds) AS seconds, sum(gpu_seconds) AS gpu_seconds,
           sum(coalesce(gpu_cost, gpu_seconds * :gpu_second_cost)) AS gpu_cost
    FROM ({_SINCE}) AS figures GROUP BY day
""")
_FAILURES = text(f"""
    SELECT error_code, sum(failed) AS failed FROM ({_SINCE}) AS figures WHERE error_code <> ''
    GROUP BY error_code ORDER BY error_code
""")


def read_days(session: Session, first: date, zone: ZoneInfo) -> dict[date, DayFigures]:
    """Return the figures of each day since `first` that has any, without test jobs.

    Charges count on the day of settlement, refunds on the day of the refund, GPU-seconds on the day a take ended. They
    cost what they cost then, by the worker's pool and class of GPU; before that was recorded, settings.gpu_second_cost.
    """
    cost = Decimal(get_settings().gpu_second_cost)
    rows = session.execute(_BY_DAY, {"zone": str(zone), "gpu_second_cost": cost, **_span(session, first, zone)})
    figures = {
        row.day: DayFigures(
            int(row.charged), int(row.refunded), int(row.films), row.seconds, row.gpu_seconds, row.gpu_cost
        )
        for row in rows
    }
    return {day: each for day, each in figures.items() if any(each)}


def read_queue(session: Session, moment: datetime) -> list[QueueFigures]:
    """Return the queue of each service tier in order of priority."""
    rows = session.execute(
        select(Unit.priority, func.count(), func.min(Unit.queued_at))
        .where(Unit.state == "ready", Unit.kind == "segment")
        .group_by(Unit.priority)
    )
    ready = {priority: (count, oldest) for priority, count, oldest in rows}
    waits = _read_waits(session, moment)
    queues = []
    for priority, title in PRIORITY_TITLES.items():
        count, oldest = ready.get(priority, (0, None))
        wait = waits.get(title.lower())
        queues.append(
            QueueFigures(
                title=title,
                waiting=count,
                oldest_seconds=None if oldest is None else int((moment - oldest).total_seconds()),
                films=wait.films if wait else 0,
                wait_p50=wait.p50 if wait else None,
                wait_p95=wait.p95 if wait else None,
            )
        )
    return queues


def read_failures(session: Session, first: date, zone: ZoneInfo) -> list[tuple[str, int]]:
    """Return (error code, failed jobs) since a day, without test jobs."""
    return [(code, int(count)) for code, count in session.execute(_FAILURES, _span(session, first, zone))]


def count_workers(session: Session) -> dict[str, int]:
    """Return the number of workers by state, without those that are gone."""
    rows = session.execute(select(Worker.state, func.count()).where(Worker.state != "gone").group_by(Worker.state))
    return dict(rows.all())


def _span(session: Session, first: date, zone: ZoneInfo) -> dict[str, datetime]:
    """Return the start of a day, and from when up to when rows are read that no quarter has summed yet."""
    start = datetime(first.year, first.month, first.day, tzinfo=zone)
    return {"start": start, "since": max(start, summed_until(session) or start), "until": NEVER}


def _read_waits(session: Session, moment: datetime) -> dict[str, WaitFigures]:
    waited = func.extract("epoch", Job.started_at - Job.created_at)
    tier = Job.spec["service_tier"].astext
    rows = session.execute(
        select(
            tier,
            func.count(),
            func.percentile_cont(0.5).within_group(waited.asc()),
            func.percentile_cont(0.95).within_group(waited.asc()),
        )
        .where(Job.started_at.is_not(None), Job.created_at >= moment - WAITS_SPAN, Job.test.is_(False))
        .group_by(tier)
    )
    return {name: WaitFigures(films, round(p50), round(p95)) for name, films, p50, p95 in rows}
