"""Lock the rows of a lease: the unit's job, the unit, and the account's share, in the order of app.lock_order."""

from decimal import Decimal
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.jobs.fair_share import join_share
from app.jobs.queue_tables import Share, Unit
from app.jobs.tables import Job
from app.sql_statements import sql_file

_LOCK = sql_file("app.dispatch", "claim_lock.sql")


def lock_free_rows(session: Session, unit_id: str) -> Any:
    """Return the row of claim_lock.sql, or None where another transaction holds one of the rows of the lease."""
    row = _LOCK.run(session, {"unit_id": unit_id}).one_or_none()
    if row is None or not row.may_count or (row.has_share and row.weight is None):
        return None
    if not row.has_share:
        share = _share(session, row.pool, row.account_id)
        return row._replace(weight=share.weight, concurrency=share.concurrency)
    return row


def lock_rows(session: Session, unit_id: str) -> None:
    """Lock the unit's job, the unit and the share, in the order of every verb that touches them."""
    job_id = session.scalars(select(Unit.job_id).where(Unit.id == unit_id)).one()
    session.get_one(Job, job_id, populate_existing=True, with_for_update=True)
    unit = session.get_one(Unit, unit_id, populate_existing=True, with_for_update=True)
    account_lock = {"account": f"segments:{unit.account_id}"}
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:account))"), account_lock)
    _share(session, unit.pool, unit.account_id)


def _share(session: Session, pool: str, account_id: str) -> Share:
    """Return the account's share in a pool, locked. Submission creates it; a missing one is created here."""
    key = (pool, account_id)
    share = session.get(Share, key, with_for_update=True, populate_existing=True)
    if share is None:
        join_share(session, pool, account_id, weight=Decimal(1), concurrency=1)
        share = session.get_one(Share, key, with_for_update=True)
    return share
