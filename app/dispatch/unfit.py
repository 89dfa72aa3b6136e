"""Units that no GPU can make: they fit no registered worker of their pool, and none that an autoscaler may start."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.settings import get_settings

# Lanes are few, however many units wait. A pool without any worker is left out: that is another fault, with an alert of
# its own, or the pool sleeps.
_UNFIT = text("""
    WITH serving AS MATERIALIZED (
        SELECT pools, memory_mb, features FROM workers WHERE state <> 'gone'
    )
    SELECT l.pool, l.model, l.memory_mb, l.features, sum(l.ready) AS units
    FROM lanes AS l
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
    """Return the ready units that fit no GPU, by pool, model and what they need."""
    folder = get_settings().catalog_dir
    rows = (
        UnfitUnits(row.pool, row.model, row.memory_mb, row.features, int(row.units)) for row in session.execute(_UNFIT)
    )
    return [row for row in rows if not pool_plan(row.pool, folder).startable(row.memory_mb, row.features)]
