"""When a film that is ordered now would start, by queue priority: the rule of `eta` for an order not yet placed."""

from collections.abc import Iterable
from math import ceil

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.dispatch.eta import PRIORS_SQL
from app.settings import get_settings

# What waits is read from the scheduler's snapshot, as forecasts do. Of another account's work of the same priority one
# unit goes before: fair shares let this account's work begin next.
_WAITING_SQL = text(f"""
    WITH {PRIORS_SQL},
    serving AS (
        SELECT count(*) AS workers FROM workers
        WHERE state IN ('starting', 'idle', 'busy') AND NOT drain_requested AND pools @> to_jsonb(CAST(:pool AS text))
    ),
    busy AS (
        SELECT count(*) AS takes, coalesce(sum(greatest(
            u.frames * coalesce(p.p50, prior.p50, 1) - extract(epoch FROM clock_timestamp() - t.started_at), 0
        )), 0) AS seconds
        FROM takes AS t
        JOIN units AS u ON u.id = t.unit_id
        JOIN jobs AS j ON j.id = t.job_id
        LEFT JOIN paces AS p ON p.model = u.model AND p.kind = u.kind AND p.shape = j.spec ->> 'resolution'
        LEFT JOIN priors AS prior ON prior.model = u.model
        WHERE t.state = 'running' AND t.pool = :pool
    )
    SELECT s.workers, b.takes, b.seconds, q.class, q.account_id = :account_id AS is_own, q.units, q.p50
    FROM serving AS s CROSS JOIN busy AS b LEFT JOIN queue_snapshots AS q ON q.pool = :pool AND q.units > 0
""")


def expected_starts(
    session: Session, *, pool: str, account_id: str, priorities: Iterable[int]
) -> dict[int, int | None]:
    """Return the seconds until a film of each priority would probably start; None where no worker serves the pool.

    While a pool sleeps, its films start after the cold start of the workers that an autoscaler may start.
    """
    rows = session.execute(_WAITING_SQL, {"pool": pool, "account_id": account_id}).all()
    workers, takes, busy = rows[0].workers, rows[0].takes, float(rows[0].seconds)
    cold_start = 0
    if not workers:
        plan = pool_plan(pool, get_settings().catalog_dir)
        workers, cold_start = plan.startable(), plan.cold_start_seconds
    starts: dict[int, int | None] = {}
    for priority in priorities:
        ahead = 0.0
        for row in rows:
            if row.units is None or getattr(row, "class") > priority:
                continue
            share = 1 if row.is_own or getattr(row, "class") < priority else 1 / row.units
            ahead += float(row.p50) * share
        is_free = takes < workers and not ahead
        starts[priority] = None if not workers else 0 if is_free else ceil((busy + ahead) / workers)
        if workers:
            starts[priority] = (starts[priority] or 0) + cold_start
    return starts
