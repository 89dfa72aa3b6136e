"""Units that no GPU makes: they fit no registered worker of their pool, and none that an autoscaler starts in time."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import COLD_STARTS_MAX, pool_plan
from app.clock import now
from app.settings import get_settings

# A worker that was started in time takes the work of its pool that is older first; so long it may be busy with that.
_LATE_SECONDS = 300
# Lanes are few, however many units wait. A pool without any worker is left out: that is another fault, with an alert of
# its own, or the pool sleeps.
_UNFIT = text("""
    WITH serving AS MATERIALIZED (
        SELECT pools, memory_mb, features FROM workers WHERE state <> 'gone'
    )
    SELECT l.pool, l.model, l.memory_mb, l.features, sum(l.ready) AS units, min(oldest.queued_at) AS oldest
    FROM lanes AS l
    LEFT JOIN LATERAL (
        SELECT u.queued_at
        FROM units AS u
        WHERE u.pool = l.pool AND u.state = 'ready' AND u.class = l.class AND u.account_id = l.account_id
          AND u.model = l.model AND u.memory_mb = l.memory_mb AND u.features = l.features
        ORDER BY u.queued_at, u.id
        LIMIT 1
    ) AS oldest ON l.class < 2
    WHERE (l.memory_mb > 0 OR l.features <> '{}')
      AND EXISTS (SELECT FROM serving AS s WHERE s.pools @> to_jsonb(l.pool))
      AND NOT EXISTS (
          SELECT FROM serving AS s
          WHERE s.pools @> to_jsonb(l.pool) AND (s.memory_mb IS NULL OR s.memory_mb >= l.memory_mb)
            AND (s.features IS NULL OR s.features @> l.features)
      )
    GROUP BY l.pool, l.model, l.memory_mb, l.features
    ORDER BY l.pool, l.model, l.memory_mb
""")


class UnfitUnits(NamedTuple):
    """Ready units of one pool and model that need the same of a GPU, which none has."""

    pool: str
    model: str
    memory_mb: int
    features: list[str]
    units: int


def unfit_units(session: Session) -> list[UnfitUnits]:
    """Return the ready units that fit no GPU, by pool, model and what they need.

    Those for which an autoscaler may start a worker are listed once one of them has waited for longer than that takes:
    the workers that came were smaller than their class, or none came. Flex work may wait, so its age says nothing.
    """
    folder, moment = get_settings().catalog_dir, now(session)
    unfit = []
    for row in session.execute(_UNFIT):
        plan = pool_plan(row.pool, folder)
        patience = timedelta(seconds=COLD_STARTS_MAX * plan.cold_start_seconds + _LATE_SECONDS)
        is_late = row.oldest is not None and moment - row.oldest > patience
        if is_late or not plan.startable(row.memory_mb, row.features):
            unfit.append(UnfitUnits(row.pool, row.model, row.memory_mb, row.features, int(row.units)))
    return unfit
