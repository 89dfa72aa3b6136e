"""Webhook deliveries of all accounts, for operators."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.errors import not_found
from app.events.tables import Event
from app.reports.capped_count import capped_count
from app.webhooks.tables import Attempt, Delivery, DeliveryState, Endpoint


@dataclass(frozen=True)
class DeliveryRow:
    """One delivery with its event, URL and account."""

    id: str
    event_id: str
    event_type: str
    job_id: str | None
    url: str
    account_id: str
    account_name: str
    state: str
    ended_reason: str | None
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: int


@dataclass(frozen=True)
class AttemptRow:
    """One attempt of a delivery: the response or the fault, and its duration in milliseconds."""

    status: int | None
    fault: str | None
    detail: str  # may name addresses of our network: for operators only
    ip: str | None
    excerpt: str  # the first 4 KiB of the response
    started_at: datetime
    total_ms: int


def count_deliveries(session: Session) -> dict[str, str]:
    """Return the number of deliveries by state, as text: large numbers are not counted to their end."""
    return {str(each): capped_count(session, Delivery.created_at, Delivery.state == each) for each in DeliveryState}


def list_delivery_rows(
    session: Session, *, state: str | None = None, after: str | None = None, limit: int
) -> tuple[list[DeliveryRow], bool]:
    """Return a page of deliveries, newest first, and whether more follow. An unknown `after` starts at the newest."""
    query = _query()
    if state is not None:
        query = query.where(Delivery.state == state)
    last = session.get(Delivery, after) if after else None
    if last is not None:
        query = query.where(tuple_(Delivery.created_at, Delivery.id) < (last.created_at, last.id))
    rows = session.execute(query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit + 1)).all()
    return [_row(row) for row in rows[:limit]], len(rows) > limit


def delivery_with_attempts(session: Session, delivery_id: str) -> tuple[DeliveryRow, list[AttemptRow]]:
    """Return a delivery and its attempts, newest first. Raises AppError `not_found`."""
    row = session.execute(_query().where(Delivery.id == delivery_id)).one_or_none()
    if row is None:
        raise not_found("webhook delivery", delivery_id)
    attempts = session.scalars(
        select(Attempt).where(Attempt.delivery_id == delivery_id).order_by(Attempt.started_at.desc())
    )
    return _row(row), [
        AttemptRow(each.status, each.fault, each.detail, each.ip, each.excerpt, each.started_at, each.total_ms)
        for each in attempts
    ]


def _query() -> Select[Delivery, str, str | None, str, str]:
    return (
        select(
            Delivery,
            Event.type.label("event_type"),
            Event.job_id.label("job_id"),
            Endpoint.url.label("endpoint_url"),
            Account.name.label("account_name"),
        )
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .join(Account, Account.id == Delivery.account_id)
    )


def _row(row: Row[Delivery, str, str | None, str, str]) -> DeliveryRow:
    delivery: Delivery = row.Delivery
    return DeliveryRow(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=row.event_type,
        job_id=row.job_id,
        url=delivery.url or row.endpoint_url,
        account_id=delivery.account_id,
        account_name=row.account_name,
        state=delivery.state,
        ended_reason=delivery.ended_reason,
        created_at=delivery.created_at,
        next_attempt_at=delivery.next_attempt_at,
        attempts=delivery.attempts,
    )
