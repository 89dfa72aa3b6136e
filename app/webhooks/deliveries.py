"""List deliveries and their attempts, redeliver one, and recover the events that an endpoint missed."""

from datetime import datetime, timedelta

from sqlalchemy import Select, and_, delete, exists, or_, select, tuple_
from sqlalchemy.orm import Session, defer

from app.accounts.caller import Caller
from app.clock import now
from app.errors import AppError, not_found
from app.events.tables import Event
from app.events.types import EVENT_TYPES
from app.settings import get_settings
from app.webhooks.endpoints import find_endpoint
from app.webhooks.fanout import is_subscribed, new_delivery
from app.webhooks.health import lock_endpoints
from app.webhooks.schemas import AttemptOut, DeliveryOut, show_attempt, show_delivery
from app.webhooks.tables import Attempt, Delivery, DeliveryState, Endpoint, EndpointKind, Trigger

PAGE_MAX = 100
# Deliveries written per call at most; the answer says where to continue, so that no call holds a long transaction.
RECOVER_MAX = 10_000


def list_deliveries(
    session: Session,
    caller: Caller,
    *,
    endpoint_id: str | None = None,
    event_id: str | None = None,
    state: DeliveryState | None = None,
    after: str | None = None,
    limit: int = 20,
) -> tuple[list[DeliveryOut], bool]:
    """Return a page of the caller's deliveries (to callback URLs too), the newest first, and whether more follow."""
    if not 1 <= limit <= PAGE_MAX:
        raise AppError(
            "invalid_request", f"limit must be between 1 and {PAGE_MAX}.", field="limit", allowed=[1, PAGE_MAX]
        )
    query = _mine(caller)
    if endpoint_id is not None:
        query = query.where(Delivery.endpoint_id == find_endpoint(session, caller, endpoint_id).id)
    if event_id is not None:
        query = query.where(Delivery.event_id == event_id)
    if state is not None:
        query = query.where(Delivery.state == state)
    if after is not None:
        last = find_delivery(session, caller, after)
        query = query.where(tuple_(Delivery.created_at, Delivery.id) < (last.created_at, last.id))
    rows = session.execute(query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit + 1)).all()
    return [show_delivery(row.Delivery, row.type, row.url) for row in rows[:limit]], len(rows) > limit


def find_delivery(session: Session, caller: Caller, delivery_id: str) -> Delivery:
    """Return the caller's delivery. Raises AppError `not_found`, the same for another tenant's delivery."""
    row = session.execute(_mine(caller).where(Delivery.id == delivery_id)).one_or_none()
    if row is None:
        raise not_found("webhook delivery", delivery_id)
    delivery: Delivery = row.Delivery
    return delivery


def get_delivery(session: Session, caller: Caller, delivery_id: str) -> tuple[DeliveryOut, list[AttemptOut]]:
    """Return a delivery and its attempts, the oldest first."""
    delivery = find_delivery(session, caller, delivery_id)
    attempts = session.scalars(
        select(Attempt).where(Attempt.delivery_id == delivery.id).order_by(Attempt.started_at, Attempt.id)
    )
    return show_delivery_of(session, delivery), [show_attempt(attempt) for attempt in attempts]


def redeliver(session: Session, caller: Caller, delivery_id: str) -> DeliveryOut:
    """Deliver an event again, now. A pending delivery becomes due; an ended one gets a new row.

    Raises AppError `not_found`, or `conflict` where the endpoint is disabled or was deleted.
    """
    delivery = find_delivery(session, caller, delivery_id)
    endpoint = _open_endpoint(session, delivery.endpoint_id)
    pending = session.scalar(
        select(Delivery)
        .where(
            Delivery.event_id == delivery.event_id,
            Delivery.endpoint_id == endpoint.id,
            Delivery.state == DeliveryState.PENDING,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if pending is not None:
        # An attempt in flight continues, but this redelivery does not wait for it.
        pending.next_attempt_at, pending.lease = now(session), None
        session.flush()
        return show_delivery_of(session, pending)
    event = session.scalars(select(Event).where(Event.id == delivery.event_id)).one()
    repeated = new_delivery(session, event, endpoint.id, delivery.url, Trigger.MANUAL)
    session.add(repeated)
    session.flush()
    return show_delivery_of(session, repeated)


def recover(
    session: Session,
    caller: Caller,
    endpoint_id: str,
    *,
    since: datetime,
    until: datetime | None = None,
    dry_run: bool = False,
) -> tuple[int, datetime | None]:
    """Deliver every event in [since, until) that an endpoint subscribes to and has not received, also while disabled.

    Returns how many there are, and the next `since` where there are more than RECOVER_MAX. With `dry_run` they are
    only counted. Raises AppError `not_found`, `conflict` (disabled), `invalid_request` (a time without a zone, or one
    before the delivery log begins: events that had arrived before would be sent again).
    """
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise AppError("invalid_request", "A time needs a time zone, such as Z.", field=name)
    endpoint = find_endpoint(session, caller, endpoint_id, lock=not dry_run)
    oldest = now(session) - timedelta(days=get_settings().webhook_log_days)
    if since < oldest:
        message = f"Deliveries are logged for {get_settings().webhook_log_days} days; since must not be earlier."
        raise AppError("invalid_request", message, field="since", value=since, allowed=oldest)
    if not dry_run:
        _open_endpoint(session, endpoint.id)
    missed = _missed(endpoint, since, until or now(session))
    events = session.scalars(missed.options(defer(Event.body)).limit(RECOVER_MAX + 1)).all()
    if not dry_run:
        session.add_all(
            new_delivery(session, event, endpoint.id, None, Trigger.RECOVER) for event in events[:RECOVER_MAX]
        )
        session.flush()
    rest = events[RECOVER_MAX].occurred_at if len(events) > RECOVER_MAX else None
    return min(len(events), RECOVER_MAX), rest


def show_delivery_of(session: Session, delivery: Delivery) -> DeliveryOut:
    """Return the API representation of a delivery."""
    type_ = session.scalars(select(Event.type).where(Event.id == delivery.event_id)).one()
    url = session.scalars(select(Endpoint.url).where(Endpoint.id == delivery.endpoint_id)).one()
    return show_delivery(delivery, type_, url)


def _missed(endpoint: Endpoint, since: datetime, until: datetime) -> Select[Event]:
    """Select the events of a range that an endpoint subscribes to, and that neither arrived nor are pending."""
    arrived = exists().where(
        Delivery.event_id == Event.id,
        Delivery.endpoint_id == endpoint.id,
        Delivery.state.in_((DeliveryState.DELIVERED, DeliveryState.PENDING)),
    )
    query = select(Event).where(
        Event.account_id == endpoint.account_id,
        Event.test == endpoint.test,
        Event.type.in_([type_ for type_ in EVENT_TYPES if is_subscribed(endpoint.event_types, type_)]),
        Event.occurred_at >= since,
        Event.occurred_at < until,
        ~arrived,
    )
    if endpoint.project_id is not None:
        query = query.where(Event.project_id == endpoint.project_id)
    return query.order_by(Event.occurred_at, Event.id)


def _open_endpoint(session: Session, endpoint_id: str) -> Endpoint:
    endpoint = lock_endpoints(session, [endpoint_id])[endpoint_id]
    if endpoint.deleted_at is not None or endpoint.disabled_at is not None:
        reason = "was deleted" if endpoint.deleted_at else "is disabled; enable it first"
        raise AppError("conflict", f"The endpoint {reason}.", endpoint=endpoint.id)
    return endpoint


def _mine(caller: Caller) -> Select[Delivery, str, str]:
    query = (
        select(Delivery, Event.type, Endpoint.url)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.account_id == caller.account_id, Event.test == caller.test)
    )
    if caller.project_id is not None:
        # A project's key sees the deliveries to its own endpoints and to the callback URLs of its own jobs.
        query = query.where(
            or_(
                Endpoint.project_id == caller.project_id,
                and_(Endpoint.kind == EndpointKind.CALLBACK, Event.project_id == caller.project_id),
            )
        )
    return query


def prune_deliveries(session: Session, *, limit: int) -> int:
    """Delete up to `limit` deliveries that ended longer ago than the log is kept. Returns how many.

    Their events can still be read in the feed and be delivered again.
    """
    before = now(session) - timedelta(days=get_settings().webhook_log_days)
    old = session.scalars(
        select(Delivery.id)
        .where(Delivery.ended_at < before)
        .order_by(Delivery.ended_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if old:
        session.execute(delete(Attempt).where(Attempt.delivery_id.in_(old)))
        session.execute(delete(Delivery).where(Delivery.id.in_(old)))
    return len(old)
