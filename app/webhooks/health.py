"""Health of an endpoint: its circuit breaker, warnings while it fails, and disabling it when it keeps failing."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.clock import now
from app.events.record import record_event
from app.webhooks.fanout import fan_out
from app.webhooks.schedule import BREAKER_FAILURES, Classification, breaker_pause, failing_percent, warning_due
from app.webhooks.tables import Delivery, DeliveryState, Endpoint, EndpointKind


def is_open(endpoint: Endpoint) -> bool:
    """Return whether deliveries may be made to an endpoint."""
    return endpoint.disabled_at is None and endpoint.deleted_at is None


def lock_endpoints(session: Session, endpoint_ids: Iterable[str], *, skip_locked: bool = False) -> dict[str, Endpoint]:
    """Lock endpoints in the order of their ids, as every transaction does, and return them as they are now.

    `skip_locked` leaves out those that another transaction holds.
    """
    query = select(Endpoint).where(Endpoint.id.in_(list(endpoint_ids))).order_by(Endpoint.id)
    # FOR NO KEY UPDATE: deliveries that are being inserted refer to the endpoint and need not wait.
    locked = session.scalars(
        query.with_for_update(key_share=True, skip_locked=skip_locked).execution_options(populate_existing=True)
    )
    return {endpoint.id: endpoint for endpoint in locked}


def record_outcome(session: Session, endpoint: Endpoint, outcome: Classification) -> None:
    """Update the health of a locked endpoint after one attempt. This may disable it."""
    moment = now(session)
    if outcome.decision == "delivered":
        endpoint.failures_in_row, endpoint.warned_percent = 0, 0
        endpoint.failing_since = endpoint.deferred_until = None
        return
    if outcome.decision not in ("retry", "gone", "blocked") or not is_open(endpoint):
        return
    endpoint.failing_since = endpoint.failing_since or moment
    deferred = endpoint.deferred_until is not None and endpoint.deferred_until > moment
    if outcome.counts_for_breaker and not deferred:
        # While it is deferred, failures come from requests that were in flight before: they are no news.
        endpoint.failures_in_row += 1
        _defer(endpoint, outcome, moment)
    if endpoint.kind == EndpointKind.REGISTERED:
        _warn_or_disable(session, endpoint, outcome, moment)


def disable(session: Session, endpoint: Endpoint, reason: str) -> None:
    """Disable a locked endpoint, abandon its pending deliveries, and notify the account's other endpoints."""
    endpoint.disabled_at = endpoint.updated_at = now(session)
    endpoint.disabled_reason = reason
    session.flush()
    abandon_waiting(session, endpoint)
    if reason != "owner":
        _publish(session, endpoint, "endpoint.disabled", reason=reason)


def enable(session: Session, endpoint: Endpoint) -> None:
    """Enable a locked endpoint again and reset its failures."""
    endpoint.disabled_at = endpoint.disabled_reason = endpoint.failing_since = endpoint.deferred_until = None
    endpoint.failures_in_row, endpoint.warned_percent = 0, 0
    endpoint.updated_at = now(session)
    session.flush()


def abandon_waiting(session: Session, endpoint: Endpoint, *, url: str | None = None) -> None:
    """Abandon the pending deliveries of an endpoint; of a callback endpoint only those to `url`.

    Deliveries in flight are settled by their courier: they may still arrive, and must then not count as abandoned.
    """
    moment = now(session)
    reason = "endpoint_deleted" if endpoint.deleted_at else "endpoint_disabled"
    pending = update(Delivery).where(
        Delivery.endpoint_id == endpoint.id,
        Delivery.state == DeliveryState.PENDING,
        or_(Delivery.lease.is_(None), Delivery.next_attempt_at <= moment),
    )
    if url is not None:
        pending, reason = pending.where(Delivery.url == url), "gone"
    session.execute(
        pending.values(
            state=DeliveryState.ABANDONED,
            next_attempt_at=None,
            lease=None,
            ended_at=moment,
            ended_reason=reason,
        ),
        execution_options={"synchronize_session": False},
    )


def _defer(endpoint: Endpoint, outcome: Classification, moment: datetime) -> None:
    """Defer the endpoint for its Retry-After or its breaker pause, whichever is longer."""
    pauses = [pause for pause in (outcome.retry_after, breaker_pause(endpoint.failures_in_row)) if pause]
    if pauses:
        endpoint.deferred_until = moment + max(pauses)


def _warn_or_disable(session: Session, endpoint: Endpoint, outcome: Classification, moment: datetime) -> None:
    percent = failing_percent(endpoint.failing_since or moment, moment)
    mark = warning_due(percent, endpoint.warned_percent)
    if outcome.decision == "gone":
        disable(session, endpoint, "gone")
    elif percent >= 100:
        disable(session, endpoint, "failing")
    elif mark is not None:
        endpoint.warned_percent = mark
        _publish(session, endpoint, "endpoint.failing", percent=mark)


def _publish(session: Session, endpoint: Endpoint, type_: str, **facts: object) -> None:
    since = endpoint.failing_since.isoformat() if endpoint.failing_since else None
    data = {"id": endpoint.id, "object": "webhook_endpoint", "name": endpoint.name, "url": endpoint.url}
    event = record_event(
        session,
        account_id=endpoint.account_id,
        project_id=endpoint.project_id,
        job_id=None,
        type=type_,
        data=data | {"failing_since": since} | facts,
        test=endpoint.test,
    )
    fan_out(session, event)


def breaker_is_open(endpoint: Endpoint, moment: datetime) -> bool:
    """Return whether deliveries of an endpoint wait at `moment` because it failed too often in a row."""
    deferred = endpoint.deferred_until is not None and endpoint.deferred_until > moment
    return deferred and endpoint.failures_in_row >= BREAKER_FAILURES
