"""Choose the next unit of a pool for a worker: the fair one of those that fit its GPU. claim.py leases it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.clock import now
from app.dispatch.worker_registry import ANY_GPU, Claimant, read_claimant
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.settings import get_settings
from app.sql_statements import SqlStatement

CLAIM_SQL = text(files("app.dispatch").joinpath("claim.sql").read_text())
_CHOOSE = SqlStatement(CLAIM_SQL.text)

_HAS_READY = text("""
    SELECT EXISTS (
        SELECT FROM lanes AS l
        CROSS JOIN LATERAL (
            SELECT FROM units AS u
            WHERE u.pool = l.pool AND u.state = 'ready' AND u.class = l.class AND u.account_id = l.account_id
              AND u.model = l.model AND u.memory_mb = l.memory_mb AND u.features = l.features
              AND (u.not_before IS NULL OR u.not_before <= :now)
            LIMIT 1
        ) AS first
        WHERE l.pool = ANY (CAST(:pools AS text[])) AND (CAST(:memory_mb AS int) IS NULL OR l.memory_mb <= :memory_mb)
          AND (CAST(:features AS text[]) IS NULL OR l.features <@ CAST(:features AS text[]))
    )
""")


@dataclass(frozen=True)
class Choice:
    """Who claims: a worker, what fits its GPU, and the model that is loaded there."""

    worker_id: str
    worker: Claimant
    resident_model: str | None

    def run(self, session: Session, pool: str, moment: datetime, excluded: Collection[str] = ()) -> Any:
        """Return the row of claim.sql, or None."""
        inputs = choice_inputs(pool, self.resident_model, moment, excluded, worker=self.worker)
        return _CHOOSE.run(session, inputs).one_or_none()

    def gpu_class(self, pool: str) -> str | None:
        """Return the name of the worker's class of GPU in a pool."""
        known = pool_plan(pool, get_settings().catalog_dir).class_of(self.worker.device_name, self.worker.memory_mb)
        return None if known is None else known.name


def peek(session: Session, pool: str, resident_model: str | None = None, *, worker_id: str | None = None) -> str | None:
    """Return the id of the unit that a claim from this pool would lease now, or None.

    Nothing is locked or charged: by the time of the claim another unit may be the fair choice.
    """
    worker = ANY_GPU if worker_id is None else read_claimant(session, worker_id)
    if worker is None:
        return None
    row = session.execute(CLAIM_SQL, choice_inputs(pool, resident_model, now(session), worker=worker)).one_or_none()
    return None if row is None else str(row.unit_id)


def has_ready(session: Session, pools: Collection[str], worker_id: str) -> bool:
    """Return whether any of these pools has a unit that fits a worker's GPU and may start now, as far as time goes."""
    worker = read_claimant(session, worker_id)
    if worker is None:
        return False
    inputs = choice_inputs("", None, now(session), worker=worker) | {"pools": list(pools)}
    return bool(session.scalar(_HAS_READY, inputs))


def choice_inputs(
    pool: str,
    resident_model: str | None,
    moment: datetime,
    excluded: Collection[str] = (),
    *,
    worker: Claimant = ANY_GPU,
) -> dict[str, Any]:
    """Return the parameters of claim.sql; `excluded` are the accounts to leave out."""
    return {
        "memory_mb": worker.memory_mb,
        "features": worker.features,
        "excluded": list(excluded),
        "pool": pool,
        "finish_pool": FINISH_POOL,
        "test_pool": TEST_POOL,
        "now": moment,
        "affinity": get_settings().affinity_seconds,
        "resident": resident_model,
    }
