"""Write the deliveries of an event, in the transaction of the fact that it reports."""

from fnmatch import fnmatchcase

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from yarl import URL

from app.clock import now
from app.db import new_id
from app.events.tables import Event
from app.events.types import CALLBACK_TYPES, GROUP_ENDED, TERMINAL_TYPES
from app.webhooks.secret import ensure_callback_secret
from app.webhooks.tables import MAX_IN_FLIGHT, RATE_PER_SECOND, Delivery, DeliveryState, Endpoint, EndpointKind, Trigger

# An endpoint, and the URL where it is not the endpoint's own.
Target = tuple[str, str | None]


def fan_out(session: Session, event: Event) -> list[Delivery]:
    """Write a delivery of `event` for each subscribed endpoint, and for the job's own callback URL; return them.

    A callback URL receives the terminal event of its job, or what its order asked for; for every step, customers
    register an endpoint.
    """
    targets: list[Target] = [(endpoint.id, None) for endpoint in subscribed_endpoints(session, event)]
    deliveries = [new_delivery(session, event, *target) for target in targets + callback_targets(session, event)]
    session.add_all(deliveries)
    session.flush()
    return deliveries


def callback_targets(session: Session, event: Event) -> list[Target]:
    """Return the target for the own callback URL of a job or a group, if it has one and is called for this event.

    That is its last event, or any for which it gets a body of its own.
    """
    if not event.callback_url or (event.callback_body is None and event.type not in (*TERMINAL_TYPES, GROUP_ENDED)):
        return []
    return [(_callback_endpoint(session, event.account_id, event.callback_url), event.callback_url)]


def subscribed_endpoints(session: Session, event: Event) -> list[Endpoint]:
    """Return the account's enabled endpoints that subscribe to this event."""
    endpoints = session.scalars(
        select(Endpoint).where(
            Endpoint.account_id == event.account_id,
            Endpoint.kind == EndpointKind.REGISTERED,
            Endpoint.test == event.test,
            Endpoint.disabled_at.is_(None),
            Endpoint.deleted_at.is_(None),
            or_(Endpoint.project_id.is_(None), Endpoint.project_id == event.project_id),
        )
    )
    return [endpoint for endpoint in endpoints if is_subscribed(endpoint.event_types, event.type)]


def is_subscribed(filters: list[str], type_: str) -> bool:
    """Return whether an event type passes an endpoint's filters: full types, `video.*`, or `*`.

    A test event goes only to the tested endpoint, so no filter matches it.
    """
    return type_ != "webhook.test" and any(fnmatchcase(type_, pattern) for pattern in filters)


def new_delivery(
    session: Session, event: Event, endpoint_id: str, url: str | None, trigger: Trigger = Trigger.AUTO
) -> Delivery:
    """Return a new delivery that is due now; the caller adds it to the session."""
    moment = now(session)
    return Delivery(
        id=new_id("whd"),
        event_id=event.id,
        endpoint_id=endpoint_id,
        account_id=event.account_id,
        url=url,
        trigger=trigger,
        state=DeliveryState.PENDING,
        attempts=0,
        next_attempt_at=moment,
        created_at=moment,
    )


def _callback_endpoint(session: Session, account_id: str, url: str) -> str:
    """Return the id of the endpoint for the origin of a callback URL; create it at the first use."""
    ensure_callback_secret(session, account_id)
    origin = str(URL(url).origin())
    moment = now(session)
    query = select(Endpoint.id).where(
        Endpoint.account_id == account_id, Endpoint.kind == EndpointKind.CALLBACK, Endpoint.url == origin
    )
    endpoint_id = session.scalar(query)
    if endpoint_id is None:
        row = {
            "id": new_id("whe"),
            "account_id": account_id,
            "kind": EndpointKind.CALLBACK,
            "url": origin,
            # For readers of the table: no filter is applied to callbacks, and rows from before have fewer.
            "event_types": [*CALLBACK_TYPES],
            "max_in_flight": MAX_IN_FLIGHT,
            "rate_per_second": RATE_PER_SECOND,
            "created_at": moment,
            "updated_at": moment,
        }
        session.execute(insert(Endpoint).values(row).on_conflict_do_nothing())
        endpoint_id = session.scalars(query).one()
    return endpoint_id
