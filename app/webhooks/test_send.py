"""Send one sample event to an endpoint while its owner waits, and return the result.

The request may use the full timeout of an attempt, so no database session is open meanwhile: the delivery is written
and leased in a first transaction, and its outcome in a second. If this process dies between the two, the courier
delivers the sample when the lease ends.
"""

import asyncio
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.clock import now
from app.concurrency import ConcurrencyLimit
from app.db import new_id, transaction
from app.errors import AppError
from app.events.record import record_event
from app.events.types import EVENT_TYPES, sample_data
from app.net import Egress, Sender
from app.settings import get_settings
from app.webhooks.claim import DeliveryRequest, load_requests
from app.webhooks.courier import OpenSession, send
from app.webhooks.endpoints import find_endpoint
from app.webhooks.fanout import new_delivery
from app.webhooks.outcomes import AttemptResult, record_attempt
from app.webhooks.schemas import SampleOut, show_attempt
from app.webhooks.tables import Attempt, Trigger

# A receiver that hangs occupies one of our threads until the timeout, so few may hang at once.
EACH_MAX = 2
TOGETHER_MAX = 8
_limit = ConcurrencyLimit("test sends", "made", each=EACH_MAX, together=TOGETHER_MAX).hold


def send_test(
    caller: Caller,
    endpoint_id: str,
    event_type: str = "webhook.test",
    *,
    egress: Egress | None = None,
    open_session: OpenSession = transaction,
) -> SampleOut:
    """Post a sample event of this type to the caller's endpoint, also to a disabled one, and return its answer.

    This is an edge: it opens and commits its own transactions, so a route calls it without a session. A failed test is
    not retried and does not count against the endpoint. Raises AppError `not_found`, `invalid_request`,
    `account_suspended`, `rate_limited` while the account has EACH_MAX tests running, and `unavailable` while all
    accounts together have too many.
    """
    require_active(caller)
    if event_type not in EVENT_TYPES:
        message = f"There is no event type {event_type!r}."
        raise AppError("invalid_request", message, field="event_type", value=event_type, allowed=list(EVENT_TYPES))
    with _limit(caller.account_id):
        return _send_and_report(caller, endpoint_id, event_type, egress, open_session)


def _send_and_report(
    caller: Caller, endpoint_id: str, event_type: str, egress: Egress | None, open_session: OpenSession
) -> SampleOut:
    seconds = get_settings().webhook_timeout_seconds
    with open_session() as session:
        request = _prepare(session, caller, endpoint_id, event_type, lease_seconds=2 * seconds)
    result = asyncio.run(_send_alone(request, egress, seconds))
    with open_session() as session:
        record_attempt(session, [result])
        attempt = session.scalars(select(Attempt).where(Attempt.delivery_id == request.delivery_id)).first()
        status = result.answer.status
        if attempt is None:
            raise AppError("internal_error", "The test was sent, but its result was not recorded.")
        return SampleOut(
            status_code=status or 0,
            success=status is not None and 200 <= status < 300,
            event_id=request.event_id,
            delivery_id=request.delivery_id,
            attempt=show_attempt(attempt),
        )


def _prepare(
    session: Session, caller: Caller, endpoint_id: str, event_type: str, *, lease_seconds: float
) -> DeliveryRequest:
    endpoint = find_endpoint(session, caller, endpoint_id)
    event = record_event(
        session,
        account_id=caller.account_id,
        project_id=endpoint.project_id,
        job_id=None,
        type="webhook.test",
        shown_as=event_type,
        data=sample_data(event_type, caller.account_id),
        test=caller.test,
    )
    delivery = new_delivery(session, event, endpoint.id, None, Trigger.TEST)
    delivery.lease = new_id("tst")
    delivery.next_attempt_at = now(session) + timedelta(seconds=lease_seconds)
    session.add(delivery)
    session.flush()
    return load_requests(session, [delivery.id])[0]


async def _send_alone(request: DeliveryRequest, egress: Egress | None, seconds: float) -> AttemptResult:
    async with Sender(egress, seconds=seconds) as sender:
        return await send(sender, request)
