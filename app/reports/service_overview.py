"""Figures of the whole service for operators: days, queues, waiting times, failures and workers."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Numeric, cast, func, select
from sqlalchemy.orm import Session

from app.jobs.queue_tables import Take, Unit, Worker
from app.jobs.tables import Job, ReceiptRow
from app.wallet.tables import Transfer, TransferKind

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


def read_days(session: Session, first: date, zone: ZoneInfo) -> dict[date, DayFigures]:
    """Return the figures of each day since `first`, without test jobs.

    Charges count on the day of settlement, refunds on the day of the refund, GPU-seconds on the day a take ended.
    """
    start = _start_of(first, zone)
    days = _delivered(session, start, zone)
    refund_day = func.date(func.timezone(str(zone), Transfer.at))
    refunds = session.execute(
        select(refund_day, func.sum(Transfer.amount))
        .where(Transfer.kind == str(TransferKind.REFUND), Transfer.at >= start)
        .group_by(refund_day)
    )
    for day, amount in refunds:
        days[day] = days.get(day, DayFigures())._replace(refunded=int(amount))
    end_day = func.date(func.timezone(str(zone), Take.ended_at))
    gpu_use = session.execute(
        select(end_day, func.sum(Take.gpu_seconds))
        .join(Job, Job.id == Take.job_id)
        .where(Take.ended_at >= start, Job.test.is_(False))
        .group_by(end_day)
    )
    for day, gpu_seconds in gpu_use:
        days[day] = days.get(day, DayFigures())._replace(gpu_seconds=Decimal(gpu_seconds))
    return days


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
    rows = session.execute(
        select(Job.error_code, func.count())
        .where(Job.state == "failed", Job.finished_at >= _start_of(first, zone), Job.test.is_(False))
        .group_by(Job.error_code)
    )
    return [(code or "unknown", count) for code, count in rows]


def count_workers(session: Session) -> dict[str, int]:
    """Return the number of workers by state, without those that are gone."""
    rows = session.execute(select(Worker.state, func.count()).where(Worker.state != "gone").group_by(Worker.state))
    return dict(rows.all())


def _start_of(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _delivered(session: Session, start: datetime, zone: ZoneInfo) -> dict[date, DayFigures]:
    settled_day = func.date(func.timezone(str(zone), ReceiptRow.settled_at))
    length = cast(Job.film["frames"].astext, Numeric) / cast(Job.spec["fps"].astext, Numeric)
    rows = session.execute(
        select(settled_day, func.sum(ReceiptRow.total), func.count(), func.sum(func.coalesce(length, 0)))
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(Job.test.is_(False), ReceiptRow.settled_at >= start)
        .group_by(settled_day)
    )
    return {day: DayFigures(int(total), 0, films, Decimal(seconds)) for day, total, films, seconds in rows}


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
