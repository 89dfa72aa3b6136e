"""How far ETAs are off: what was foretold of a job when it was accepted is kept and held against what came."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.eta import forecast
from app.dispatch.tables import Forecast
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job

# Of the new jobs so many are foretold in each round of the scheduler: a sample, should more than these be accepted.
FORETOLD_MAX = 2
FRESH = timedelta(seconds=10)
SCORED_MAX = 200
LATELY = timedelta(hours=1)
KEPT = timedelta(days=30)
FORGOTTEN_MAX = 500


def record_eta_forecasts(session: Session) -> int:
    """Write down the forecast of a few jobs that were just accepted. Returns of how many.

    It is what their customers are told at that moment. Where no worker serves the pool, nothing is foretold.
    """
    moment = now(session)
    known = select(Forecast.job_id).where(Forecast.job_id == Job.id).exists()
    fresh = select(Job).where(Job.state == JobState.QUEUED, Job.created_at > moment - FRESH, ~known)
    written = 0
    for job in session.scalars(fresh.order_by(Job.created_at.desc(), Job.id.desc()).limit(FORETOLD_MAX)).all():
        outlook = forecast(session, job)
        if outlook.start_p50 is None or outlook.end_p50 is None or outlook.end_p90 is None:
            continue
        row = Forecast(
            job_id=job.id,
            pool=job.pool,
            made_at=moment,
            start_p50=outlook.start_p50,
            end_p50=outlook.end_p50,
            end_p90=outlook.end_p90,
        )
        session.add(row)
        written += 1
    session.flush()
    return written


def score_eta_forecasts(session: Session) -> int:
    """Write beside each forecast what came of its job, once that has ended. Returns how many were scored."""
    ended = session.execute(
        select(Forecast, Job)
        .join(Job, Job.id == Forecast.job_id)
        .where(Forecast.ended_at.is_(None), Job.state.in_(FINAL))
        .limit(SCORED_MAX)
    ).all()
    for row, job in ended:
        row.started_at, row.ended_at = job.started_at, job.finished_at
        row.completed = job.state == JobState.COMPLETED
    session.flush()
    return len(ended)


def forget_forecasts(session: Session) -> int:
    """Remove some forecasts that are a month old. Returns how many."""
    old = select(Forecast.job_id).where(Forecast.made_at < now(session) - KEPT).limit(FORGOTTEN_MAX)
    gone = session.execute(delete(Forecast).where(Forecast.job_id.in_(old)))
    return int(gone.rowcount)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class EtaAccuracy:
    """How far the ETAs of one pool were off in the last hour, over the jobs that were made."""

    pool: str
    jobs: int
    start_off: float  # seconds between foretold and real start, the median
    end_off: float  # the same of the end
    within: float  # share of jobs that ended within the foretold range, 0 to 1


# Also what the scheduler's gauges read; `:since` bounds it by an index.
ACCURACY_SQL = """
    SELECT pool, count(*) AS jobs,
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(extract(epoch FROM started_at - made_at) - start_p50)) AS start_off,
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY abs(extract(epoch FROM ended_at - made_at) - end_p50)) AS end_off,
           avg((extract(epoch FROM ended_at - made_at) <= end_p90)::int) AS within
    FROM forecasts WHERE completed AND made_at > CAST(:since AS timestamptz) GROUP BY pool ORDER BY pool
"""


def accuracy(session: Session) -> list[EtaAccuracy]:
    """Return how far the ETAs of each pool were off in the last hour."""
    rows = session.execute(text(ACCURACY_SQL), {"since": now(session) - LATELY})
    return [EtaAccuracy(row[0], row[1], float(row[2]), float(row[3]), float(row[4])) for row in rows]
