"""Webhook routes: endpoints in OpenAI's format, deliveries with their attempts, redelivery, and the event feed."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from app.accounts.caller import Caller
from app.api.access import WebhooksCaller, needs_without_session
from app.events import feed
from app.events.schemas import EventList, show_page
from app.events.types import EVENT_TYPES
from app.request_session import SessionDep
from app.roles import Scope
from app.webhooks import callback_secret, deliveries, endpoints
from app.webhooks.schemas import (
    AttemptOut,
    CallbackSecretOut,
    DeliveryOut,
    EndpointCreate,
    EndpointOut,
    EndpointUpdate,
    RecoverRequest,
    SampleOut,
    SampleRequest,
    SecretRotate,
)
from app.webhooks.tables import DeliveryState
from app.webhooks.test_send import send_test

router = APIRouter(prefix="/v1", tags=["webhooks"])

After = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=100)]


class EndpointPage(BaseModel):
    """A page of endpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[EndpointOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EndpointDeleted(BaseModel):
    """Confirmation that an endpoint was deleted. Its deliveries stay in the log."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryOut]
    last_id: str | None
    has_more: bool


class DeliveryWithAttempts(DeliveryOut):
    """A delivery with every attempt to deliver it."""

    attempt_log: list[AttemptOut]


class RecoveryOut(BaseModel):
    """How many events are delivered again, and where to continue if there were too many for one call."""

    count: int
    next_since: datetime | None


class EventTypes(BaseModel):
    """Every event type, in the OpenAI SDK's format, with its description."""

    object: Literal["list"] = "list"
    data: list[str]
    descriptions: dict[str, str]


@router.get("/webhook_event_types")
def list_webhook_event_types(caller: WebhooksCaller) -> EventTypes:
    """List the event types that an endpoint can subscribe to."""
    return EventTypes(data=list(EVENT_TYPES), descriptions=EVENT_TYPES)


@router.post("/webhook_endpoints")
def create_webhook_endpoint(session: SessionDep, caller: WebhooksCaller, body: EndpointCreate) -> EndpointOut:
    """Create an endpoint. Its signing secret is only in this response."""
    return endpoints.create_endpoint(session, caller, body)


@router.get("/webhook_endpoints")
def list_webhook_endpoints(
    session: SessionDep, caller: WebhooksCaller, after: After = None, limit: Limit = 20
) -> EndpointPage:
    """List the caller's endpoints, newest first."""
    data, more = endpoints.list_endpoints(session, caller, after=after, limit=limit)
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return EndpointPage(data=data, first_id=ends[0], last_id=ends[1], has_more=more)


@router.get("/webhook_endpoints/{endpoint_id}")
def get_webhook_endpoint(session: SessionDep, caller: WebhooksCaller, endpoint_id: str) -> EndpointOut:
    """Return an endpoint and its delivery status."""
    return endpoints.show_endpoint_of(session, endpoints.find_endpoint(session, caller, endpoint_id))


@router.post("/webhook_endpoints/{endpoint_id}")
def update_webhook_endpoint(
    session: SessionDep, caller: WebhooksCaller, endpoint_id: str, body: EndpointUpdate
) -> EndpointOut:
    """Change an endpoint. `enabled` enables a disabled one again and resets its failures."""
    return endpoints.update_endpoint(session, caller, endpoint_id, body)


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_webhook_endpoint(session: SessionDep, caller: WebhooksCaller, endpoint_id: str) -> EndpointDeleted:
    """Delete an endpoint. Its pending deliveries are abandoned."""
    endpoints.delete_endpoint(session, caller, endpoint_id)
    return EndpointDeleted(id=endpoint_id)


@router.post("/webhook_endpoints/{endpoint_id}/rotate_secret")
def rotate_webhook_endpoint_secret(
    session: SessionDep, caller: WebhooksCaller, endpoint_id: str, body: SecretRotate
) -> EndpointOut:
    """Create a new signing secret. The old one can keep signing beside it for up to 72 hours."""
    return endpoints.rotate_secret(session, caller, endpoint_id, keep_old_hours=body.hours())


@router.post("/webhook_endpoints/{endpoint_id}/test")
def test_webhook_endpoint(
    caller: Annotated[Caller, Depends(needs_without_session(Scope.WEBHOOKS))], endpoint_id: str, body: SampleRequest
) -> SampleOut:
    """Send a sample event now and return the endpoint's response."""
    return send_test(caller, endpoint_id, body.event_type)


@router.post("/webhook_endpoints/{endpoint_id}/recover")
def recover_webhook_deliveries(
    session: SessionDep, caller: WebhooksCaller, endpoint_id: str, body: RecoverRequest
) -> RecoveryOut:
    """Deliver again every event of a period that the endpoint subscribes to and has not received."""
    count, next_since = deliveries.recover(
        session, caller, endpoint_id, since=body.since, until=body.until, dry_run=body.dry_run
    )
    return RecoveryOut(count=count, next_since=next_since)


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
def list_webhook_endpoint_deliveries(
    session: SessionDep,
    caller: WebhooksCaller,
    endpoint_id: str,
    state: DeliveryState | None = None,
    after: After = None,
    limit: Limit = 20,
) -> DeliveryPage:
    """List the deliveries to one endpoint, newest first."""
    endpoints.find_endpoint(session, caller, endpoint_id)
    data, more = deliveries.list_deliveries(
        session, caller, endpoint_id=endpoint_id, state=state, after=after, limit=limit
    )
    return DeliveryPage(data=data, last_id=data[-1].id if data else None, has_more=more)


@router.get("/webhook_deliveries")
def list_webhook_deliveries(
    session: SessionDep,
    caller: WebhooksCaller,
    event_id: Annotated[str | None, Query(max_length=64)] = None,
    state: DeliveryState | None = None,
    after: After = None,
    limit: Limit = 20,
) -> DeliveryPage:
    """List the caller's deliveries, including those to a job's own callback URL."""
    data, more = deliveries.list_deliveries(session, caller, event_id=event_id, state=state, after=after, limit=limit)
    return DeliveryPage(data=data, last_id=data[-1].id if data else None, has_more=more)


@router.get("/webhook_deliveries/{delivery_id}")
def get_webhook_delivery(session: SessionDep, caller: WebhooksCaller, delivery_id: str) -> DeliveryWithAttempts:
    """Return a delivery with its attempts."""
    delivery, attempts = deliveries.get_delivery(session, caller, delivery_id)
    return DeliveryWithAttempts(**delivery.model_dump(), attempt_log=attempts)


@router.post("/webhook_deliveries/{delivery_id}/redeliver")
def redeliver_webhook_delivery(session: SessionDep, caller: WebhooksCaller, delivery_id: str) -> DeliveryOut:
    """Deliver an event again now. A pending delivery is sent without waiting for its next attempt."""
    return deliveries.redeliver(session, caller, delivery_id)


@router.get("/webhook_callback_secret")
def get_webhook_callback_secret(session: SessionDep, caller: WebhooksCaller) -> CallbackSecretOut:
    """Return a hint of the secret that signs requests to the `callback_url` of the account's jobs."""
    return callback_secret.get_callback_secret(session, caller)


@router.post("/webhook_callback_secret/rotate")
def rotate_webhook_callback_secret(
    session: SessionDep, caller: WebhooksCaller, body: SecretRotate
) -> CallbackSecretOut:
    """Create a new callback secret, which is only in this response. The old one can keep signing for up to 72 hours."""
    return callback_secret.rotate_callback_secret(session, caller, keep_old_hours=body.hours())


@router.get("/events")
def list_events(session: SessionDep, caller: WebhooksCaller, after: After = None, limit: Limit = 100) -> EventList:
    """List events after a cursor, oldest first and without gaps."""
    page = feed.list_events(
        session, caller.account_id, test=caller.test, project_id=caller.project_id, after=after, limit=limit
    )
    return show_page(page)
