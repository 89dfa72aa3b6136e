"""The rows of an accepted order: its jobs, and the units of all of them."""

from datetime import timedelta
from typing import Any

from sqlalchemy import inspect

from app.accounts.caller import Caller
from app.jobs.deadlines import deadlines_in_review, deadlines_of
from app.jobs.idempotency import OrderIdentity
from app.jobs.order_facts import OrderFacts
from app.jobs.order_warnings import with_order_warnings
from app.jobs.plan import plan_units
from app.jobs.priced import Priced
from app.jobs.resolve import resolved_facts
from app.jobs.review import review_due
from app.jobs.states import JobState, Stage, UnitState
from app.jobs.tables import Job
from app.jobs.usd import frozen_usd_rate
from app.logs import current_ids

# The attributes that a job does not have yet.
_LATER = dict.fromkeys(inspect(Job).column_attrs.keys())


def order_rows(
    caller: Caller,
    order: OrderIdentity,
    facts: OrderFacts,
    films: tuple[Priced, ...],
    ids: list[str],
    *,
    pool: str,
    group_id: str | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the columns of an order's jobs, and those of the units of all of them."""
    rows: list[dict[str, Any]] = []
    units: list[dict[str, Any]] = []
    is_reviewed = order.checked is not None and order.checked.review is not None
    for index, (job_id, film) in enumerate(zip(ids, films, strict=True)):
        planned = plan_units(film.spec, film.model, pool)
        if is_reviewed:
            planned = [unit | {"state": str(UnitState.BLOCKED)} for unit in planned]
        units += [unit | {"job_id": job_id} for unit in planned]
        row = _job_columns(caller, order, facts, film)
        row |= {"id": job_id, "pool": pool, "units_total": sum(unit["kind"] == "segment" for unit in planned)}
        # A group's callback is called once, when all of it has ended.
        row |= {} if group_id is None else {"group_id": group_id, "group_index": index, "callback_url": None}
        rows.append(row)
    return rows, units


def _job_columns(caller: Caller, order: OrderIdentity, facts: OrderFacts, priced: Priced) -> dict[str, Any]:
    """Return the attributes of the order's job, those that it does not have yet too."""
    request, spec = order.request, priced.spec
    deadlines = deadlines_of(priced.book.tier(spec.service_tier), facts.now, request.expires_after)
    stage, review_due_at = Stage.WAITING, None
    if order.checked is not None and order.checked.review is not None:
        deadlines = deadlines_in_review(facts.now, request.expires_after)
        stage, review_due_at = Stage.MODERATING, review_due(spec.service_tier, facts.now)
    return {
        **_LATER,
        "account_id": caller.account_id,
        "project_id": facts.project_id,
        "key_id": caller.key_id,
        "test": caller.test,
        "state": str(JobState.QUEUED),
        "stage": str(stage),
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec.fingerprint(),
        "model": spec.model,
        "model_alias": priced.alias,
        "pricing": priced.inputs(),
        "price": priced.body() | frozen_usd_rate(priced.price.currency),
        "quote_id": None if priced.quote is None else priced.quote.id,
        "total": priced.price.total.minor,
        "list_total": priced.price.list_total.minor,
        "currency": priced.price.currency,
        "prompt": "\n".join(shot.prompt for shot in spec.shots),
        "extra": dict(request.metadata),
        "resolved": with_order_warnings(resolved_facts(spec, priced.model), order.warnings),
        "door": order.door,
        "checked_by": None if order.checked is None else order.checked.checked_by,
        "parent_id": order.parent_id,
        "parent_kind": order.parent_kind,
        "callback_url": request.callback_url,
        "callback_events": None if order.callback_events is None else list(order.callback_events),
        "retention": None if request.retention is None else request.retention.model_dump(exclude_none=True),
        "progress": 0,
        "units_done": 0,
        "created_at": facts.now,
        "cancel_at": None if order.cancel_after is None else facts.now + timedelta(seconds=order.cancel_after),
        "not_after": deadlines.not_after,
        "promote_at": deadlines.promote_at,
        "start_by": deadlines.start_by,
        "review_due_at": review_due_at,
        "links_revoked": 0,
        "traceparent": order.traceparent,
        "request_id": current_ids().get("request_id"),
    }
