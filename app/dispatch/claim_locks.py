"""Lock the rows of a lease: the unit's job, the unit, and the account's share, in the order of app.lock_order."""

from decimal import Decimal
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.jobs.fair_share import join_share
from app.jobs.queue_tables import Share, Unit
from app.jobs.tables import Job


def lock_free_rows(session: Session, unit_id: str) -> tuple[Job, Unit, Share] | str:
    """Lock the rows of a lease unless another transaction holds one; then return the id of the unit's account."""
    unit = session.get_one(Unit, unit_id, populate_existing=True)
    free: dict[str, Any] = {"populate_existing": True, "with_for_update": {"skip_locked": True}}
    job = session.get(Job, unit.job_id, **free)
    locked = None if job is None else session.get(Unit, unit_id, **free)
    if job is None or locked is None or not _may_count(session, unit.account_id):
        return unit.account_id
    share = session.get(Share, (unit.pool, unit.account_id), **free)
    if share is None and session.get(Share, (unit.pool, unit.account_id), populate_existing=True) is not None:
        return unit.account_id
    return job, locked, share or _share(session, locked)


def lock_rows(session: Session, unit_id: str) -> tuple[Job, Unit, Share]:
    """Lock the unit's job, the unit and the share, in the order of every verb that touches them."""
    job_id = session.scalars(select(Unit.job_id).where(Unit.id == unit_id)).one()
    job = session.get_one(Job, job_id, populate_existing=True, with_for_update=True)
    unit = session.get_one(Unit, unit_id, populate_existing=True, with_for_update=True)
    account_lock = {"account": f"segments:{unit.account_id}"}
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:account))"), account_lock)
    return job, unit, _share(session, unit)


def _may_count(session: Session, account_id: str) -> bool:
    """Lock out the account's claims in other pools, whose segments count too, unless one is under way."""
    account_lock = {"account": f"segments:{account_id}"}
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(hashtext(:account))"), account_lock))


def _share(session: Session, unit: Unit) -> Share:
    """Return the account's share in the unit's pool, locked. Submission creates it; a missing one is created here."""
    key = (unit.pool, unit.account_id)
    share = session.get(Share, key, with_for_update=True, populate_existing=True)
    if share is None:
        join_share(session, unit.pool, unit.account_id, weight=Decimal(1), concurrency=1)
        share = session.get_one(Share, key, with_for_update=True)
    return share
