"""Webhook deliveries of all accounts, with every attempt, and redelivery by operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.admin.operations import redeliver_event
from app.audit_log.actor import Actor
from app.reports.deliveries import count_deliveries, delivery_with_attempts, list_delivery_rows
from app.roles import Role
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep
from app.web.language import gettext
from app.web.render import page, redirect
from app.webhooks.tables import DeliveryState

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
    state_filter = state if state in states else None
    deliveries, has_more = list_delivery_rows(session, state=state_filter, after=after, limit=PAGE)
    context: dict[str, Any] = {
        "deliveries": deliveries,
        "states": states,
        "counts": count_deliveries(session),
        "state": state,
        "tones": TONES,
        "more": deliveries[-1].id if has_more else None,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/deliveries.html", title=gettext("Deliveries"), **context)


@router.get("/deliveries/{delivery_id}")
def show_delivery(request: Request, session: SessionDep, visitor: AdminDep, delivery_id: str) -> Response:
    """Show one delivery of any account with its attempts."""
    delivery, attempts = delivery_with_attempts(session, delivery_id)
    context: dict[str, Any] = {
        "delivery": delivery,
        "attempts": attempts,
        "tones": TONES,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/delivery.html", title=gettext("Delivery"), **context)


@router.post("/deliveries/{delivery_id}/redelivery")
def post_redelivery(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, delivery_id: str
) -> Response:
    """Resend an event of any account."""
    delivery = redeliver_event(session, Actor.of(visitor.caller), delivery_id)
    return redirect(request, f"/admin/deliveries/{delivery.id}")
