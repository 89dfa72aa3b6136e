"""Operators' view of jobs, workers and deliveries of all accounts, draining and redelivery; jobs.py cancels."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, tuple_
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.caller import Caller
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.catalog.models import load_catalog
from app.dispatch.worker_registry import set_draining
from app.errors import not_found
from app.events.tables import Event
from app.jobs.queue_tables import Worker
from app.jobs.tables import Job
from app.roles import Role, Scope, require_role
from app.settings import get_settings
from app.webhooks.deliveries import redeliver
from app.webhooks.schemas import DeliveryOut, show_delivery
from app.webhooks.tables import Delivery, Endpoint


def jobs_by_state(session: Session, *, since: datetime) -> list[Row[Any]]:
    """Return (state, stage, test, count) of the unfinished jobs and of those that ended since a moment."""
    ended = Job.finished_at >= since
    query = select(Job.state, Job.stage, Job.test, func.count().label("count")).where(
        Job.state.in_(("queued", "in_progress")) | ended
    )
    order = (Job.state, Job.stage, Job.test)
    return list(session.execute(query.group_by(*order).order_by(*order)))


def list_all_jobs(
    session: Session,
    *,
    state: str | None = None,
    account_id: str | None = None,
    model: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> tuple[list[Job], bool]:
    """Return a page of jobs of all accounts, newest first, and whether more follow. Raises AppError `not_found`."""
    query = select(Job)
    if model is not None:
        # Not by the aliases that jobs were ordered under: of all accounts, no index holds them.
        model = load_catalog(get_settings().catalog_dir).aliases.get(model, model)
    for column, wanted in ((Job.state, state), (Job.account_id, account_id), (Job.model, model)):
        if wanted is not None:
            query = query.where(column == wanted)
    if after is not None:
        last = session.get(Job, after)
        if last is None:
            raise not_found("video", after)
        query = query.where(tuple_(Job.created_at, Job.id) < (last.created_at, last.id))
    jobs = list(session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)))
    return jobs[:limit], len(jobs) > limit


def list_workers(session: Session, *, gone: bool = False) -> list[Worker]:
    """Return the registered workers by host and id; with `gone` also those that have left."""
    query = select(Worker).order_by(Worker.host, Worker.id)
    return list(session.scalars(query if gone else query.where(Worker.state != "gone")))


def drain_worker(session: Session, actor: Actor, worker_id: str, *, drain: bool = True) -> Worker:
    """Ask a worker to finish its take and stop, or (drain False) to resume. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    worker = set_draining(session, worker_id, drain=drain)
    record_action(session, actor, "worker.drained" if drain else "worker.resumed", worker_id, host=worker.host)
    return worker


def list_all_deliveries(
    session: Session,
    *,
    state: str | None = None,
    account_id: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> tuple[list[tuple[str, DeliveryOut]], bool]:
    """Return a page of deliveries of all accounts, each with its account, newest first, and whether more follow."""
    query = (
        select(Delivery, Event.type, Endpoint.url)
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
    )
    if state is not None:
        query = query.where(Delivery.state == state)
    if account_id is not None:
        query = query.where(Delivery.account_id == account_id)
    if after is not None:
        last = session.get(Delivery, after)
        if last is None:
            raise not_found("webhook delivery", after)
        query = query.where(tuple_(Delivery.created_at, Delivery.id) < (last.created_at, last.id))
    rows = session.execute(query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit + 1)).all()
    data = [(row.Delivery.account_id, show_delivery(row.Delivery, row.type, row.url)) for row in rows[:limit]]
    return data, len(rows) > limit


def redeliver_event(session: Session, actor: Actor, delivery_id: str) -> DeliveryOut:
    """Deliver a webhook once more, of any account. Raises `forbidden`, `not_found`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    delivery = session.get(Delivery, delivery_id)
    if delivery is None:
        raise not_found("webhook delivery", delivery_id)
    test = session.scalars(select(Event.test).where(Event.id == delivery.event_id)).one()
    account = get_account(session, delivery.account_id)
    owner = Caller(account, frozenset({str(Scope.WEBHOOKS)}), frozenset(), test=test)
    again = redeliver(session, owner, delivery_id)
    record_action(session, actor, "delivery.repeated", delivery_id, account=account.id)
    return again
