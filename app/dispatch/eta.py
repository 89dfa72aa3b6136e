"""The honest queue: where a job stands and when it will probably start and end, from measured paces."""

from dataclasses import dataclass
from decimal import Decimal
from math import ceil

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.dispatch.pace import estimate_seconds
from app.dispatch.roster import live_workers
from app.jobs.plan import FINISH_POOL
from app.jobs.queue_tables import Share, Unit
from app.jobs.states import is_final
from app.jobs.tables import Job


@dataclass(frozen=True)
class Outlook:
    """What can be said of an unfinished job: its place, and a range of seconds from now until it ends."""

    position: int | None
    start_p50: int | None
    end_p50: int | None
    end_p90: int | None

    def eta(self) -> dict[str, int] | None:
        """Return the range as the doors show it, or None where no worker serves the pool."""
        if self.end_p50 is None or self.end_p90 is None:
            return None
        return {"start_seconds": self.start_p50 or 0, "seconds_p50": self.end_p50, "seconds_p90": self.end_p90}


def forecast(session: Session, job: Job) -> Outlook:
    """Return a job's place in the queue (0 when it has started) and its ETA.

    The forecast runs the dispatcher's rule forward in coarse strokes: before this job go the units of better
    classes, and of its own class what fair shares will put before it. It is a range because takes differ.
    """
    if is_final(job.state):
        return Outlook(None, None, None, None)
    spec = job.spec
    resolution = str(spec["resolution"])
    own = _own_work(session, job, resolution)
    ahead_units, ahead_frames = _ahead(session, job)
    ahead_p50, ahead_p90 = estimate_seconds(session, job.model, "segment", resolution, ahead_frames)
    finish_p50, finish_p90 = estimate_seconds(session, FINISH_POOL, "finish", resolution, int(spec["frames"]))
    workers = live_workers(session, job.pool)
    position = 0 if job.started_at else ahead_units
    if not workers:
        return Outlook(position, None, None, None)
    start = ahead_p50 / workers if not job.started_at else Decimal(0)
    end_p50 = start + own[0] / min(workers, max(1, own[2])) + finish_p50
    end_p90 = ahead_p90 / workers + own[1] / min(workers, max(1, own[2])) + finish_p90
    return Outlook(position, ceil(start), ceil(end_p50), ceil(max(end_p90, end_p50)))


def _own_work(session: Session, job: Job, resolution: str) -> tuple[Decimal, Decimal, int]:
    """Return the p50 and p90 seconds of the job's remaining segments, and how many can run side by side."""
    rows = session.execute(
        select(func.coalesce(func.sum(Unit.frames), 0), func.count(Unit.shot.distinct())).where(
            Unit.job_id == job.id, Unit.kind == "segment", Unit.state.in_(("blocked", "ready", "running"))
        )
    ).one()
    p50, p90 = estimate_seconds(session, job.model, "segment", resolution, int(rows[0]))
    return p50, p90, int(rows[1])


def _ahead(session: Session, job: Job) -> tuple[int, int]:
    """Return the jobs and the frames that will probably be served before this job.

    Per account before this one: as many units as fair shares let pass, which is what fits into the same number of
    turns; the account's own earlier units all go first.
    """
    mine = session.execute(
        select(func.min(Unit.klass), func.min(Unit.queued_at)).where(Unit.job_id == job.id, Unit.state == "ready")
    ).one()
    if mine[0] is None:
        return 0, 0
    klass, queued_at = mine
    ready = select(Unit).where(Unit.pool == job.pool, Unit.state == "ready").subquery()
    earlier = session.execute(
        select(func.count(ready.c.job_id.distinct()), func.coalesce(func.sum(ready.c.frames), 0)).where(
            ready.c.account_id == job.account_id,
            ready.c.job_id != job.id,
            (ready.c["class"] < klass) | ((ready.c["class"] == klass) & (ready.c.queued_at < queued_at)),
        )
    ).one()
    turns = int(earlier[0]) + 1
    better = session.execute(
        select(func.count(ready.c.job_id.distinct()), func.coalesce(func.sum(ready.c.frames), 0)).where(
            ready.c.account_id != job.account_id, ready.c["class"] < klass
        )
    ).one()
    rivals = session.execute(
        select(ready.c.account_id, func.count(ready.c.job_id.distinct()), func.sum(ready.c.frames))
        .join(Share, (Share.account_id == ready.c.account_id) & (Share.pool == job.pool))
        .where(ready.c.account_id != job.account_id, ready.c["class"] == klass)
        .group_by(ready.c.account_id)
    ).all()
    jobs, frames = int(earlier[0]) + int(better[0]), int(earlier[1]) + int(better[1])
    for _, count, total in rivals:
        share = min(int(count), turns)
        jobs += share
        frames += int(total) * share // int(count)
    return jobs, frames
