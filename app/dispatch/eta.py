"""Queue position and ETA: when a job will probably start and end, from measured throughput."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from math import ceil
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.clock import lease_clock_input
from app.dispatch.waiting_work import Ahead, Turn, waiting_work
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.settings import get_settings
from app.sql_statements import SqlStatement

# Ends with the CTE `facts`, one row for each unfinished job of `:ids`; a statement that reads more selects from it too.
FACTS_SQL = files("app.dispatch").joinpath("forecast.sql").read_text()
# Its first CTE, `priors (model, p50, p90)`, for other statements that estimate.
PRIORS_SQL = FACTS_SQL[FACTS_SQL.index("priors (") : FACTS_SQL.index(",\nwanted")]
# The same of one job, `:job_id`, whose plan the database keeps. Of an array it assumes ten ids, and plans each call.
JOB_FACTS_SQL = FACTS_SQL.replace("id = ANY (CAST(:ids AS text[]))", "id = :job_id")
_FORECASTS = SqlStatement(f"{FACTS_SQL} SELECT * FROM facts")
_FORECAST = SqlStatement(f"{JOB_FACTS_SQL} SELECT * FROM facts")
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Outlook:
    """Forecast of an unfinished job: its queue position, and ranges of seconds from now until it starts and ends."""

    position: int | None
    start_p50: int | None
    end_p50: int | None
    end_p90: int | None

    def eta(self) -> dict[str, int] | None:
        """Return the range as the API shows it, or None where the job fits no worker and none can be started."""
        if self.end_p50 is None or self.end_p90 is None:
            return None
        return {"start_seconds": self.start_p50 or 0, "seconds_p50": self.end_p50, "seconds_p90": self.end_p90}


def forecast(session: Session, job: Job) -> Outlook:
    """Return a job's queue position (0 when it has started) and its ETA.

    The start follows the dispatcher's own rule, run forward: what runs now must end, and ahead of this job go higher
    priorities, the account's own earlier work, and as many units of each other account as begin at a lower virtual
    time. All durations are measured, by the unit's model and resolution. The result is a range because takes differ.
    Where the job fits no worker that runs, it begins with the cold start of those that an autoscaler may start.
    """
    return forecasts(session, [job])[job.id]


def forecasts(session: Session, jobs: Sequence[Job]) -> dict[str, Outlook]:
    """Return the outlook of each job, by id; see `forecast`.

    One statement, however many jobs there are, and one for each of their pools whose snapshot this process has not
    read. The scheduler refreshes it about once a second: a long queue costs little more than a short one.
    """
    outlooks = {job.id: Outlook(None, None, None, None) for job in jobs}
    unfinished = [job.id for job in jobs if not is_final(job.state)]
    if unfinished:
        statement = _FORECAST if len(unfinished) == 1 else _FORECASTS
        for facts in statement.run(session, forecast_inputs(unfinished, lease_clock_input(session))):
            outlooks[facts.facts_id] = outlook_of(session.connection(), facts)
    return outlooks


def forecast_inputs(ids: Sequence[str], at: datetime | None = None) -> dict[str, Any]:
    """Return the parameters of FACTS_SQL, or of JOB_FACTS_SQL for one job, at a moment of the clock of leases.

    The moment None is now.
    """
    return {
        "ids": list(ids),
        "job_id": ids[0],
        "now": at,
        "finish_pool": FINISH_POOL,
        "test_pool": TEST_POOL,
    }


def outlook_of(connection: Connection, facts: Any) -> Outlook:
    """Return the forecast that follows from a row of the CTE `facts`; its columns are named there.

    What other accounts have waiting is read over the connection where this process does not keep it.

    A job that waits for a review has no place in the queue, and nobody knows when its review ends.
    """
    if facts.is_in_review:
        return Outlook(None, None, None, None)
    workers, cold_start = facts.workers, _ZERO
    if not workers:
        workers, cold_start = _startable(facts)
        if not facts.rest_p50:
            # Nothing of it is still to be claimed: what is left runs, on workers that drain, or is joined.
            workers, cold_start = max(workers, 1), _ZERO
    is_waiting = facts.concurrency is not None
    others = _others(connection, facts) if is_waiting else Ahead()
    other_p50, other_p90 = (Decimal(str(round(seconds, 3))) for seconds in (others.p50, others.p90))
    ahead = others.jobs + int(facts.own_jobs) if is_waiting else 0
    position = 0 if facts.has_started else ahead
    if not workers:
        return Outlook(position, None, None, None)
    start, parallel = [_ZERO, _ZERO], min(workers, max(1, facts.open_shots))
    if is_waiting:
        # The account's own older work runs on no more workers than its concurrency limit allows.
        own_workers = min(workers, facts.concurrency)
        parallel = min(parallel, facts.concurrency)
        busy = (facts.busy_p50 + facts.own_p50 + other_p50, facts.busy_p90 + facts.own_p90 + other_p90)
        own_busy = (
            facts.account_p50 - facts.running_p50 + facts.own_p50,
            facts.account_p90 - facts.running_p90 + facts.own_p90,
        )
        of_pool = _start(bool(ahead), facts.busy_takes, busy, workers)
        of_account = _start(bool(facts.own_jobs), facts.account_takes, own_busy, own_workers)
        start = [max(pair) for pair in zip(of_pool, of_account, strict=True)]
    rendering = (facts.rest_p50 + facts.running_p50, facts.rest_p90 + facts.running_p90)
    ends = [
        begin + cold_start + own / parallel + finishing
        for begin, own, finishing in zip(start, rendering, _finish(facts), strict=True)
    ]
    start_p50 = 0 if facts.has_started else ceil(start[0] + cold_start)
    return Outlook(position, start_p50, ceil(ends[0]), ceil(max(ends)))


def _others(connection: Connection, facts: Any) -> Ahead:
    """Return the work of other accounts that goes before a job which waits."""
    turn = Turn(facts.turn_account, facts.turn_class, facts.turn, facts.turn_queued_us)
    return waiting_work(connection, facts.needed_pool, facts.queue_version).ahead_of(turn)


def _startable(facts: Any) -> tuple[int, Decimal]:
    """Return how many workers that the job fits an autoscaler may start, and the seconds until the first can claim."""
    plan = pool_plan(facts.needed_pool, get_settings().catalog_dir)
    seconds = plan.cold_start_seconds if facts.open_shots else 0  # a film that is only joined needs none of them
    return plan.startable(facts.needed_memory_mb or 0, facts.needed_features or ()), Decimal(seconds)


def _start(is_behind: bool, takes: int, seconds: tuple[Decimal, Decimal], workers: int) -> list[Decimal]:
    """Return the p50 and p90 seconds until one of `workers` is free: `takes` run, and `seconds` of work go before."""
    if not is_behind and takes < workers:
        return [_ZERO, _ZERO]
    return [each / workers for each in seconds]


def _finish(facts: Any) -> list[Decimal]:
    """Return the p50 and p90 seconds from the last segment to the end: waiting films first, then this one."""
    workers = max(1, facts.finish_workers)
    pairs = ((facts.finish_p50, facts.films_p50), (facts.finish_p90, facts.films_p90))
    return [own + max(_ZERO, films - own if facts.is_film_ready else films) / workers for own, films in pairs]
