"""The pools of pools.toml as rows, since `workers_wanted` is asked by an autoscaler that has only the database.

Of a pool's classes of GPU only those that an autoscaler may start are written: work that also fits another class must
not be left to one of which no more can be started.
"""

import json
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import load_pools
from app.settings import get_settings

# Rows that are as they should be are neither written nor locked.
_WRITE_PLANS = text("""
    WITH known AS (
        SELECT * FROM jsonb_populate_recordset(CAST(NULL AS pool_plans), CAST(:rows AS jsonb))
    ),
    gone AS (DELETE FROM pool_plans WHERE pool NOT IN (SELECT pool FROM known) RETURNING 1),
    written AS (
        INSERT INTO pool_plans AS p SELECT * FROM known
        ON CONFLICT (pool) DO UPDATE
        SET start_seconds = excluded.start_seconds, priority_start_seconds = excluded.priority_start_seconds
        WHERE p.* IS DISTINCT FROM excluded.*
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
""")
_WRITE_CLASSES = text("""
    WITH known AS (
        SELECT * FROM jsonb_populate_recordset(CAST(NULL AS gpu_classes), CAST(:rows AS jsonb))
    ),
    gone AS (
        DELETE FROM gpu_classes AS c WHERE NOT EXISTS (
            SELECT FROM known AS k WHERE k.pool = c.pool AND k.name = c.name
        ) RETURNING 1
    ),
    written AS (
        INSERT INTO gpu_classes AS c SELECT * FROM known
        ON CONFLICT (pool, name) DO UPDATE SET place = excluded.place, memory_mb = excluded.memory_mb,
            features = excluded.features
        WHERE c.* IS DISTINCT FROM excluded.*
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
""")


def write_pool_plans(session: Session) -> int:
    """Write the rows of pools.toml, and remove those of others. Returns how many have changed."""
    plans = load_pools(get_settings().catalog_dir)
    pools: list[dict[str, Any]] = [
        {"pool": pool, **plan.model_dump(include={"start_seconds", "priority_start_seconds"})}
        for pool, plan in plans.items()
    ]
    classes: list[dict[str, Any]] = [
        {
            "pool": pool,
            "name": each.name,
            "place": place,
            "memory_mb": each.memory_mb,
            "features": list(each.features),
        }
        for pool, plan in plans.items()
        for place, each in enumerate(plan.gpus)
        if each.workers_max > 0
    ]
    changed = session.scalar(_WRITE_PLANS, {"rows": json.dumps(pools)}) or 0
    return int(changed + (session.scalar(_WRITE_CLASSES, {"rows": json.dumps(classes)}) or 0))
