"""What workers did in the last day: takes, errors, GPU time and peak memory, from the takes that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, func, select
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import not_found
from app.jobs.queue_tables import Take, Worker

# The takes of a longer time are not read: their rows are found by when they ended, all workers' together.
SPAN = timedelta(days=1)
TAKES_MAX = 50


@dataclass(frozen=True)
class WorkerFigures:
    """The takes of a worker that ended within SPAN.

    `busy_percent` is the share of that time, or of the worker's life if it is younger, in which its GPU was in use.
    """

    takes: int = 0
    errors: int = 0
    gpu_seconds: Decimal = Decimal(0)
    peak_memory_bytes: int = 0
    busy_percent: int = 0


@dataclass(frozen=True)
class WorkerTake:
    """One take that has ended. `seconds` is its whole duration."""

    id: str
    job_id: str
    kind: str
    model: str
    state: str
    started_at: datetime
    seconds: Decimal
    gpu_seconds: Decimal
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True)
class WorkerPage:
    """One worker: its row as plain values, its figures, and its newest takes."""

    facts: dict[str, Any]
    figures: WorkerFigures
    takes: Sequence[WorkerTake]


def read_worker_figures(session: Session, worker_id: str | None = None) -> dict[str, WorkerFigures]:
    """Return the figures of each worker that ended a take within SPAN, or of one, by its id."""
    moment = now(session)
    peak = func.coalesce(Take.meter["peak_memory_bytes"].astext.cast(BigInteger), 0)
    query = (
        select(
            Take.worker_id,
            func.count(),
            func.count().filter(Take.state.in_(("failed", "lost"))),
            func.sum(Take.gpu_seconds),
            func.max(peak),
            func.max(Worker.started_at),
        )
        .outerjoin(Worker, Worker.id == Take.worker_id)
        .where(Take.ended_at >= moment - SPAN)
        .group_by(Take.worker_id)
    )
    if worker_id is not None:
        query = query.where(Take.worker_id == worker_id)
    figures = {}
    for each, takes, errors, gpu_seconds, peak_bytes, started_at in session.execute(query):
        life = min(SPAN, moment - started_at) if started_at else SPAN
        percent = min(100, round(100 * float(gpu_seconds) / max(1.0, life.total_seconds())))
        figures[each] = WorkerFigures(takes, errors, gpu_seconds, int(peak_bytes), percent)
    return figures


def read_worker(session: Session, worker_id: str) -> WorkerPage:
    """Return one worker with its history. Raises AppError `not_found`."""
    worker = session.get(Worker, worker_id)
    if worker is None:
        raise not_found("worker", worker_id)
    takes = session.scalars(
        select(Take)
        .where(Take.ended_at >= now(session) - SPAN, Take.worker_id == worker_id)
        .order_by(Take.ended_at.desc())
        .limit(TAKES_MAX)
    )
    names = ("id", "host", "pid", "device", "pools", "state", "resident_model", "drain_requested")
    facts = {name: getattr(worker, name) for name in (*names, "started_at", "seen_at", "facts")}
    figures = read_worker_figures(session, worker_id).get(worker_id, WorkerFigures())
    return WorkerPage(facts, figures, [_row(each) for each in takes])


def _row(take: Take) -> WorkerTake:
    ended_at = take.ended_at or take.started_at
    names = ("id", "job_id", "kind", "model", "state", "started_at", "gpu_seconds", "error_code", "error_message")
    seconds = Decimal(round((ended_at - take.started_at).total_seconds(), 1)).quantize(Decimal("0.1"))
    return WorkerTake(**{name: getattr(take, name) for name in names}, seconds=seconds)
