"""Refunds of a film, and the deliveries to its callback URL."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.events.tables import Event
from app.jobs.tables import Job
from app.wallet.funds import signed_text
from app.wallet.tables import Transfer, TransferKind
from app.webhooks.tables import Delivery, Endpoint, EndpointKind


def refunds_of(session: Session, job: Job) -> list[dict[str, Any]]:
    """Return the refunds of a film, oldest first. Its receipt is not changed by them."""
    refunds = session.scalars(
        select(Transfer)
        .where(Transfer.job_id == job.id, Transfer.kind == TransferKind.REFUND)
        .order_by(Transfer.at, Transfer.id)
    )
    return [{"amount": signed_text(each), "at": each.at, "reason": each.reason} for each in refunds]


def refunded_amounts(session: Session, job_ids: Iterable[str]) -> dict[str, int]:
    """Return the refunded sum of each of these films that has refunds, in minor units."""
    rows = session.execute(
        select(Transfer.job_id, func.sum(Transfer.amount))
        .where(Transfer.job_id.in_(list(job_ids)), Transfer.kind == TransferKind.REFUND)
        .group_by(Transfer.job_id)
    )
    return {str(job_id): int(amount) for job_id, amount in rows}


def callbacks_of(session: Session, job: Job) -> list[dict[str, Any]]:
    """Return the deliveries to a film's own callback URL, newest first. It is not one of the account's endpoints."""
    if job.callback_url is None:
        return []
    rows = session.execute(
        select(Delivery, Event.type)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Event.account_id == job.account_id, Event.job_id == job.id, Endpoint.kind == EndpointKind.CALLBACK)
        .order_by(Delivery.created_at.desc(), Delivery.id.desc())
    )
    return [
        {
            "id": delivery.id,
            "event_type": event_type,
            "state": str(delivery.state),
            "attempts": delivery.attempts,
            "last_status_code": delivery.last_status,
            "created_at": delivery.created_at,
        }
        for delivery, event_type in rows
    ]
