"""Deliveries of all accounts, and the audit trail with its seals."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import func, select, tuple_

from app.accounts.tables import Account
from app.events.tables import Event
from app.prices.trail import broken_seals, list_entries
from app.web.console.people import names_of
from app.web.render import page
from app.web.visitor import AdminDep, SessionDep
from app.webhooks.tables import Delivery, DeliveryState, Endpoint

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
    counts = dict(session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all())
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
    }
    more = deliveries[-1]["id"] if len(rows) > PAGE else None
    return page(request, "console/deliveries.html", title="Deliveries", more=more, **context)


@router.get("/trail")
def show_trail(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    subject: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query()] = None,
) -> Response:
    """Show every act of the admins, newest first, and whether the chain of seals is whole."""
    entries = list_entries(session, subject=subject or None, before=before, limit=PAGE + 1)
    names = names_of(session, [each for entry in entries for each in (entry.actor, entry.subject)])
    shown = [
        {
            "number": each.number,
            "at": each.at,
            "actor": names.get(each.actor, each.actor),
            "via": each.via,
            "act": each.act,
            "subject": each.subject,
            "subject_name": names.get(each.subject, each.subject),
            "facts": {name: value for name, value in each.facts.items() if value not in (None, "")},
            "hash": each.hash[:12],
        }
        for each in entries[:PAGE]
    ]
    context: dict[str, Any] = {"entries": shown, "subject": subject, "broken": list(broken_seals(session))}
    more = shown[-1]["number"] if len(entries) > PAGE else None
    return page(request, "console/trail.html", title="Audit trail", more=more, **context)
