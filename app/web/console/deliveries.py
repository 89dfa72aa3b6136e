"""Webhook deliveries of all accounts: how they go, every attempt, and once more."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select, tuple_

from app.accounts.tables import Account
from app.admin.operations import redeliver_event
from app.audit_log.actor import Actor
from app.errors import not_found
from app.events.tables import Event
from app.roles import Role
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep
from app.web.console.capped_count import capped_count
from app.web.render import go, page
from app.webhooks.tables import Attempt, Delivery, DeliveryState, Endpoint

router = APIRouter(prefix="/admin", include_in_schema=False)

PAGE = 50
TONES = {"pending": "info", "delivered": "good", "exhausted": "bad", "abandoned": ""}


@router.get("/deliveries")
def show_deliveries(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    state: Annotated[str, Query(max_length=16)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the webhook deliveries of all accounts, or those in one state."""
    states = [str(each) for each in DeliveryState]
    counts = {each: capped_count(session, Delivery.created_at, Delivery.state == each) for each in states}
    query = (
        select(Delivery, Event.type, Endpoint.url, Account.id, Account.name)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .join(Account, Account.id == Endpoint.account_id)
    )
    if state in states:
        query = query.where(Delivery.state == state)
    last = session.get(Delivery, after) if after else None
    if last is not None:
        query = query.where(tuple_(Delivery.created_at, Delivery.id) < (last.created_at, last.id))
    rows = session.execute(query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(PAGE + 1)).all()
    deliveries = [
        {
            "id": delivery.id,
            "event": type_,
            "url": delivery.url or url,
            "account_id": account_id,
            "account": name,
            "state": delivery.state,
            "reason": delivery.ended_reason,
            "created_at": delivery.created_at,
            "attempts": delivery.attempts,
        }
        for delivery, type_, url, account_id, name in rows[:PAGE]
    ]
    context: dict[str, Any] = {
        "deliveries": deliveries,
        "states": states,
        "counts": counts,
        "state": state,
        "tones": TONES,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    more = deliveries[-1]["id"] if len(rows) > PAGE else None
    return page(request, "console/deliveries.html", title="Deliveries", more=more, **context)


@router.get("/deliveries/{delivery_id}")
def show_delivery(request: Request, session: SessionDep, visitor: AdminDep, delivery_id: str) -> Response:
    """Show one delivery of any account with its attempts."""
    row = session.execute(
        select(Delivery, Event.type, Event.job_id, Endpoint.url, Account.name)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .join(Account, Account.id == Delivery.account_id)
        .where(Delivery.id == delivery_id)
    ).one_or_none()
    if row is None:
        raise not_found("webhook delivery", delivery_id)
    attempts = session.scalars(
        select(Attempt).where(Attempt.delivery_id == delivery_id).order_by(Attempt.started_at.desc())
    )
    context: dict[str, Any] = {
        "delivery": row.Delivery,
        "event_type": row.type,
        "job_id": row.job_id,
        "url": row.Delivery.url or row.url,
        "account": row.name,
        "attempts": list(attempts),
        "tones": TONES,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/delivery.html", title="Delivery", **context)


@router.post("/deliveries/{delivery_id}/redelivery")
def post_redelivery(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, delivery_id: str
) -> Response:
    """Deliver an event once more, whoever it belongs to."""
    made = redeliver_event(session, Actor.of(visitor.caller), delivery_id)
    return go(request, f"/admin/deliveries/{made.id}")
