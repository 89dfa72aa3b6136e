"""Webhook endpoints of the account: create, configure, test, and their deliveries with every attempt."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.projects import list_projects
from app.clock import now
from app.db import commit_early
from app.errors import AppError
from app.events.types import EVENT_TYPES
from app.parsing import parse_integer
from app.settings import get_settings
from app.web.auth import FormDep, OwnerDep, SessionDep, Visitor, text_of, texts_of
from app.web.forms import NO_FORM, SubmittedForm
from app.web.language import gettext, gettext_noop, translate
from app.web.problems import validation_error
from app.web.render import page, redirect
from app.webhooks.deliveries import get_delivery, list_deliveries, recover, redeliver
from app.webhooks.endpoints import (
    create_endpoint,
    delete_endpoint,
    find_endpoint,
    list_endpoints,
    rotate_secret,
    show_endpoint_of,
    update_endpoint,
)
from app.webhooks.schemas import EndpointCreate, EndpointOut, EndpointUpdate, SampleOut
from app.webhooks.tables import DeliveryState
from app.webhooks.test_send import send_test

router = APIRouter(prefix="/account/webhooks", include_in_schema=False)

ROTATION_OVERLAP_HOURS = 24
TONES = {"enabled": "good", "held_back": "busy", "failing": "bad", "disabled": ""}
DELIVERY_TONES = {"pending": "info", "delivered": "good", "exhausted": "bad", "abandoned": ""}

FAULT_TEXTS = {
    "unreachable": gettext_noop("the host cannot be reached"),
    "tls_failed": gettext_noop("no secure connection to the host"),
    "timeout": gettext_noop("no answer in time"),
    "disconnected": gettext_noop("the host closed the connection"),
    "bad_answer": gettext_noop("the answer is not valid HTTP"),
    "internal": gettext_noop("an error of this service"),
}


@router.get("")
def show_endpoints(request: Request, session: SessionDep, visitor: OwnerDep) -> Response:
    """Show the endpoints."""
    return _endpoints(request, session, visitor)


@router.post("")
def post_endpoint(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Create an endpoint. Only the page that this returns shows its signing secret."""
    try:
        request_body = EndpointCreate(
            url=text_of(form, "url"),
            name=text_of(form, "name"),
            event_types=_events(form),
            project=text_of(form, "project") or None,
        )
        with session.begin_nested():
            endpoint = create_endpoint(session, visitor.caller, request_body)
    except ValidationError as error:
        return _endpoints(request, session, visitor, error=validation_error(error), form=SubmittedForm(form))
    except AppError as error:
        return _endpoints(request, session, visitor, error=error, form=SubmittedForm(form))
    return _endpoint(request, session, visitor, endpoint)


@router.get("/{endpoint_id}")
def show_endpoint(
    request: Request,
    session: SessionDep,
    visitor: OwnerDep,
    endpoint_id: str,
    state: Annotated[str, Query(max_length=16)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show one endpoint with its deliveries."""
    endpoint = show_endpoint_of(session, find_endpoint(session, visitor.caller, endpoint_id))
    return _endpoint(request, session, visitor, endpoint, state=state, after=after)


@router.post("/{endpoint_id}/secret")
def post_rotation(
    request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, endpoint_id: str
) -> Response:
    """Rotate an endpoint's signing secret; the old one also signs for a day."""
    endpoint = rotate_secret(session, visitor.caller, endpoint_id, keep_old_hours=ROTATION_OVERLAP_HOURS)
    return _endpoint(request, session, visitor, endpoint)


@router.post("/{endpoint_id}/state")
def post_state(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, endpoint_id: str) -> Response:
    """Disable an endpoint, or enable it and clear its failures."""
    update_endpoint(session, visitor.caller, endpoint_id, EndpointUpdate(enabled=text_of(form, "enabled") == "true"))
    return redirect(request, f"/account/webhooks/{endpoint_id}")


@router.post("/{endpoint_id}/sample")
def post_sample(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, endpoint_id: str) -> Response:
    """Send a test event now and show the endpoint's response."""
    # It may take seconds, in which the session, which has read the visitor, holds no connection.
    commit_early(session)
    result = send_test(visitor.caller, endpoint_id, text_of(form, "event_type", "webhook.test"))
    context: dict[str, Any] = {
        "title": gettext("Test event"),
        "result": result,
        "outcome": sample_outcome(result),
        "endpoint_id": endpoint_id,
    }
    return page(request, "account/sample.html", **context)


@router.post("/{endpoint_id}/recovery")
def post_recovery(
    request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, endpoint_id: str
) -> Response:
    """Resend the events of the last hours that the endpoint has not received."""
    hours = parse_integer(text_of(form, "hours"))
    hours_max = 24 * get_settings().webhook_log_days
    since = now(session) - timedelta(hours=24 if hours is None else min(hours_max, hours))
    count, _ = recover(session, visitor.caller, endpoint_id, since=since)
    return redirect(request, f"/account/webhooks/{endpoint_id}?recovered={count}")


@router.post("/{endpoint_id}/removal")
def post_removal(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, endpoint_id: str) -> Response:
    """Delete an endpoint; its delivery log stays."""
    delete_endpoint(session, visitor.caller, endpoint_id)
    return redirect(request, "/account/webhooks")


@router.get("/deliveries/{delivery_id}")
def show_delivery(request: Request, session: SessionDep, visitor: OwnerDep, delivery_id: str) -> Response:
    """Show a delivery with every attempt: IP address, timings, and response."""
    delivery, attempts = get_delivery(session, visitor.caller, delivery_id)
    context: dict[str, Any] = {
        "title": gettext("Delivery"),
        "delivery": delivery,
        "attempts": attempts,
        "tones": DELIVERY_TONES,
    }
    return page(request, "account/delivery.html", **context)


@router.post("/deliveries/{delivery_id}/redelivery")
def post_redelivery(
    request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, delivery_id: str
) -> Response:
    """Resend an event now."""
    delivery = redeliver(session, visitor.caller, delivery_id)
    return redirect(request, f"/account/webhooks/deliveries/{delivery.id}")


def sample_outcome(result: SampleOut) -> str:
    """Return what became of a test event, as a sentence: `Delivered: 200 in 84 ms.`"""
    attempt = result.attempt
    duration = "" if attempt.total_ms is None else gettext(" in %(ms)s ms", ms=attempt.total_ms)
    if result.success:
        return gettext("Delivered: %(status)s%(duration)s.", status=result.status_code, duration=duration)
    if result.status_code:
        return gettext(
            "Not delivered: the endpoint answered %(status)s%(duration)s.",
            status=result.status_code,
            duration=duration,
        )
    fault = translate(FAULT_TEXTS.get(attempt.fault or "", gettext_noop("no answer")))
    return gettext("Not delivered: %(fault)s%(duration)s.", fault=fault, duration=duration)


def _events(form: FormData) -> list[str]:
    """Return the selected event types. `*` (all) is preselected, and is ignored where others are selected."""
    ticked = texts_of(form, "event_types")
    return [each for each in ticked if each != "*"] or ["*"]


def _endpoints(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    endpoints, _ = list_endpoints(session, visitor.caller, limit=100)
    context: dict[str, Any] = {
        "title": gettext("Webhooks"),
        "endpoints": endpoints,
        "tones": TONES,
        "projects": [{"id": each.id, "name": each.name} for each in list_projects(session, visitor.caller.account_id)],
        "event_types": sorted(EVENT_TYPES),
        "error": error,
        "form": form,
    }
    status = error.status if error else 200
    return page(request, "account/webhooks.html", status=status, **context)


def _endpoint(
    request: Request,
    session: Session,
    visitor: Visitor,
    endpoint: EndpointOut,
    *,
    state: str = "",
    after: str | None = None,
) -> Response:
    states = [str(each) for each in DeliveryState]
    state_filter = DeliveryState(state) if state in states else None
    deliveries, more = list_deliveries(
        session, visitor.caller, endpoint_id=endpoint.id, state=state_filter, after=after, limit=25
    )
    context: dict[str, Any] = {
        "title": endpoint.name or gettext("Endpoint"),
        "endpoint": endpoint,
        "deliveries": deliveries,
        "more": deliveries[-1].id if more else None,
        "state": state,
        "states": states,
        "tones": TONES,
        "delivery_tones": DELIVERY_TONES,
        "event_types": sorted(EVENT_TYPES),
        "recovered": request.query_params.get("recovered", ""),
    }
    return page(request, "account/endpoint.html", **context)
