"""Register, change and remove endpoints, and rotate their secrets."""

from datetime import timedelta
from fnmatch import fnmatchcase

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.accounts.projects import get_project
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.events.types import EVENT_TYPES
from app.net import check_url
from app.webhooks.health import abandon_waiting, disable, enable, lock_endpoints
from app.webhooks.schemas import EndpointCreate, EndpointOut, EndpointUpdate, show_endpoint
from app.webhooks.secret import current_secret, issue_secret
from app.webhooks.tables import Endpoint, EndpointKind, Secret

ENDPOINTS_MAX = 50
PAGE_MAX = 100


def create_endpoint(session: Session, caller: Caller, body: EndpointCreate) -> EndpointOut:
    """Register an endpoint and return it with its signing secret, which is shown only once.

    A caller whose key belongs to a project registers for that project. Raises AppError `url_refused`,
    `invalid_request` (unknown event type), `not_found` (project), `conflict` (too many endpoints).
    """
    require_active(caller)
    check_url(body.url)
    check_filters(body.event_types)
    project_id = caller.project_id
    if body.project is not None and project_id is None:
        project_id = get_project(session, caller.account_id, body.project).id
    # One at a time per account, so that two requests cannot both create the last endpoint allowed.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"endpoints:{caller.account_id}"))))
    count = session.scalar(
        select(func.count())
        .select_from(Endpoint)
        .where(Endpoint.account_id == caller.account_id, Endpoint.deleted_at.is_(None))
        .where(Endpoint.kind == EndpointKind.REGISTERED)
    )
    if (count or 0) >= ENDPOINTS_MAX:
        raise AppError("conflict", f"The account has {ENDPOINTS_MAX} endpoints already.", allowed=ENDPOINTS_MAX)
    moment = now(session)
    endpoint = Endpoint(
        id=new_id("whe"),
        account_id=caller.account_id,
        project_id=project_id,
        test=caller.test,
        kind=EndpointKind.REGISTERED,
        name=body.name,
        url=body.url,
        event_types=body.event_types,
        max_in_flight=body.max_in_flight,
        rate_per_second=body.rate_per_second,
        failures_in_row=0,
        warned_percent=0,
        created_at=moment,
        updated_at=moment,
    )
    session.add(endpoint)
    session.flush()
    secret = issue_secret(session, caller.account_id, endpoint.id, keep_old=timedelta(0))
    return show_endpoint_of(session, endpoint, secret=secret)


def list_endpoints(
    session: Session, caller: Caller, *, after: str | None = None, limit: int = 20
) -> tuple[list[EndpointOut], bool]:
    """Return a page of the caller's endpoints, the newest first, and whether more follow."""
    if not 1 <= limit <= PAGE_MAX:
        raise AppError(
            "invalid_request", f"limit must be between 1 and {PAGE_MAX}.", field="limit", allowed=[1, PAGE_MAX]
        )
    query = select(Endpoint).where(*_mine(caller))
    if after is not None:
        last = find_endpoint(session, caller, after)
        query = query.where(tuple_(Endpoint.created_at, Endpoint.id) < (last.created_at, last.id))
    endpoints = session.scalars(query.order_by(Endpoint.created_at.desc(), Endpoint.id.desc()).limit(limit + 1)).all()
    return [show_endpoint_of(session, endpoint) for endpoint in endpoints[:limit]], len(endpoints) > limit


def find_endpoint(session: Session, caller: Caller, endpoint_id: str, *, lock: bool = False) -> Endpoint:
    """Return the caller's endpoint. Raises AppError `not_found`, the same for another tenant's endpoint."""
    if lock:
        lock_endpoints(session, [endpoint_id])
    endpoint = session.scalar(select(Endpoint).where(Endpoint.id == endpoint_id, *_mine(caller)))
    if endpoint is None:
        raise not_found("webhook endpoint", endpoint_id)
    return endpoint


def update_endpoint(session: Session, caller: Caller, endpoint_id: str, body: EndpointUpdate) -> EndpointOut:
    """Change an endpoint; pending deliveries go to the new URL. Enabling it resets its failures.

    Raises AppError `not_found`, `url_refused`, `invalid_request`.
    """
    endpoint = find_endpoint(session, caller, endpoint_id, lock=True)
    changes = body.model_dump(exclude_none=True, exclude={"enabled"})
    if body.url is not None:
        check_url(body.url)
    if body.event_types is not None:
        check_filters(body.event_types)
    changed = {name: value for name, value in changes.items() if getattr(endpoint, name) != value}
    for name, value in changed.items():
        setattr(endpoint, name, value)
    if changed:
        endpoint.updated_at = now(session)
    session.flush()
    if body.enabled is True and endpoint.disabled_at is not None:
        enable(session, endpoint)
    if body.enabled is False and endpoint.disabled_at is None:
        disable(session, endpoint, "owner")
    return show_endpoint_of(session, endpoint)


def delete_endpoint(session: Session, caller: Caller, endpoint_id: str) -> None:
    """Delete an endpoint: its secrets expire now and its pending deliveries are abandoned; its log stays."""
    endpoint = find_endpoint(session, caller, endpoint_id, lock=True)
    endpoint.deleted_at = endpoint.updated_at = now(session)
    session.execute(
        update(Secret).where(Secret.endpoint_id == endpoint.id).values(expires_at=endpoint.deleted_at),
        execution_options={"synchronize_session": False},
    )
    abandon_waiting(session, endpoint)
    session.flush()


def rotate_secret(session: Session, caller: Caller, endpoint_id: str, *, keep_old_hours: int) -> EndpointOut:
    """Issue a new secret and return it, only once; the old one signs as well for `keep_old_hours`."""
    endpoint = find_endpoint(session, caller, endpoint_id, lock=True)
    secret = issue_secret(session, caller.account_id, endpoint.id, keep_old=timedelta(hours=keep_old_hours))
    endpoint.updated_at = now(session)
    session.flush()
    return show_endpoint_of(session, endpoint, secret=secret)


def show_endpoint_of(session: Session, endpoint: Endpoint, *, secret: str | None = None) -> EndpointOut:
    """Return the API representation of an endpoint."""
    current = current_secret(session, endpoint.account_id, endpoint.id)
    return show_endpoint(endpoint, now(session), hint=current.hint if current else None, secret=secret)


def check_filters(filters: list[str]) -> None:
    """Refuse an event filter that matches no event type. Raises AppError `invalid_request` with the filter's index."""
    for number, pattern in enumerate(filters):
        prefix = pattern.removesuffix("*")
        if (
            "*" in prefix
            or any(sign in prefix for sign in "?[")
            or not any(fnmatchcase(type_, pattern) for type_ in EVENT_TYPES)
        ):
            raise AppError(
                "invalid_request",
                f"No event type matches {pattern!r}.",
                field=f"event_types.{number}",
                value=pattern,
                allowed=["*", "video.*", *EVENT_TYPES],
            )


def _mine(caller: Caller) -> list[ColumnElement[bool]]:
    conditions = [
        Endpoint.account_id == caller.account_id,
        Endpoint.kind == EndpointKind.REGISTERED,
        Endpoint.test == caller.test,
        Endpoint.deleted_at.is_(None),
    ]
    if caller.project_id is not None:
        conditions.append(Endpoint.project_id == caller.project_id)
    return conditions
