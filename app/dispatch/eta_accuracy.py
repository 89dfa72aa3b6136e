"""ETA accuracy: record the forecast of a job when it is accepted, and compare it with the actual times."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.eta import forecast
from app.dispatch.tables import Forecast
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job

# Forecasts recorded per round of the scheduler: a sample where more jobs than these are accepted.
RECORD_BATCH = 2
NEW_JOB_AGE = timedelta(seconds=10)
SCORE_BATCH = 200
ACCURACY_WINDOW = timedelta(hours=1)
RETENTION = timedelta(days=30)
DELETE_BATCH = 500


def record_eta_forecasts(session: Session) -> int:
    """Record the forecasts of a few jobs that were just accepted. Returns how many were recorded.

    They are what the customers see at that moment. Where no worker serves the pool, there is no forecast.
    """
    moment = now(session)
    known = select(Forecast.job_id).where(Forecast.job_id == Job.id).exists()
    fresh = select(Job).where(Job.state == JobState.QUEUED, Job.created_at > moment - NEW_JOB_AGE, ~known)
    count = 0
    for job in session.scalars(fresh.order_by(Job.created_at.desc(), Job.id.desc()).limit(RECORD_BATCH)).all():
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
        count += 1
    session.flush()
    return count


def score_eta_forecasts(session: Session) -> int:
    """Add the actual times of jobs that have ended to their forecasts. Returns how many were scored."""
    ended = session.execute(
        select(Forecast, Job)
        .join(Job, Job.id == Forecast.job_id)
        .where(Forecast.ended_at.is_(None), Job.state.in_(FINAL))
        .limit(SCORE_BATCH)
    ).all()
    for row, job in ended:
        row.started_at, row.ended_at = job.started_at, job.finished_at
        row.completed = job.state == JobState.COMPLETED
    session.flush()
    return len(ended)


def forget_forecasts(session: Session) -> int:
    """Delete some forecasts that are older than RETENTION. Returns how many."""
    expired = select(Forecast.job_id).where(Forecast.made_at < now(session) - RETENTION).limit(DELETE_BATCH)
    result = session.execute(delete(Forecast).where(Forecast.job_id.in_(expired)))
    return int(result.rowcount)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class EtaAccuracy:
    """Errors of the ETAs of one pool in the last hour, over completed jobs."""

    pool: str
    jobs: int
    start_off: float  # median seconds between forecast and actual start
    end_off: float  # the same for the end
    within: float  # share of jobs that ended within the forecast range, 0 to 1


# The scheduler's gauges read this too; `:since` bounds it by an index.
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
    """Return the ETA errors of each pool over the last hour."""
    rows = session.execute(text(ACCURACY_SQL), {"since": now(session) - ACCURACY_WINDOW})
    return [EtaAccuracy(row[0], row[1], float(row[2]), float(row[3]), float(row[4])) for row in rows]
