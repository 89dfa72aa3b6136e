"""Accept an order, in one transaction: read what it has to know, price it, write it, and hold its money."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.catalog.models import load_catalog
from app.db import after_commit, new_id
from app.errors import AppError
from app.jobs.capability import check_memory
from app.jobs.deadlines import deadlines_of
from app.jobs.file_references import check_inputs
from app.jobs.idempotency import OrderIdentity, earlier_job, free_key, scoped_key
from app.jobs.intake import check_intake
from app.jobs.low_balance import publish_low_balance
from app.jobs.model_terms import check_terms
from app.jobs.open_quotes import open_quote
from app.jobs.order_facts import OrderFacts, read_order_facts
from app.jobs.order_warnings import with_order_warnings
from app.jobs.plan import FINISH_POOL, TEST_POOL, plan_units
from app.jobs.publish_event import new_job_event
from app.jobs.quote import PRICE_RETRIES_MAX, Priced, estimate, price_spec
from app.jobs.resolve import resolved_facts
from app.jobs.schemas import VideoRequest
from app.jobs.states import JobState, QuoteState, Stage
from app.jobs.tables import Job
from app.jobs.usd import frozen_usd_rate
from app.logs import add_log_ids, current_ids
from app.metrics import JOBS_ACCEPTED
from app.net import check_url
from app.prices.reservations import ReservationConflict, reserve_by
from app.settings import get_settings
from app.sql_statements import attach, mark_written, new_row, sql_file
from app.wakeups import wake_after_commit
from app.wallet.committed_spend import remember_committed_spend
from app.wallet.hold import place_hold
from pricing.money import Money

_WRITE = sql_file("app.jobs", "order_write.sql")


def submit(session: Session, caller: Caller, order: OrderIdentity) -> Job:
    """Accept an order and return its job; a repeated call returns the first job.

    Raises AppError and writes nothing when the order cannot be made, priced, afforded or queued.
    """
    facts = read_order_facts(session, caller, order)
    if facts.may_repeat:
        earlier = earlier_job(session, caller, order)
        if earlier is not None:
            return earlier
        free_key(session, caller, order)
    require_active(caller)
    job = _write_order(session, caller, order, facts)
    _hold_price(session, caller, job, facts)
    wake_after_commit(session, job.pool)
    accepted = JOBS_ACCEPTED.labels(job.model, str(job.spec["service_tier"]), job.door, job.test)
    after_commit(session, accepted.inc)
    add_log_ids(job_id=job.id)
    return job


def _write_order(session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts) -> Job:
    """Price the order, check it, and write it.

    Free seconds and promotions are reserved after the job is written, because settlements lock the share before those
    counters (see app.lock_order). When another request used them meanwhile, what was written is taken back with its
    locks, and the order is priced again.
    """
    job_id = new_id("video")
    for retries_left in reversed(range(PRICE_RETRIES_MAX)):
        priced = _price(session, caller, order, facts)
        _check(session, caller, order, facts, priced)
        if caller.test or not priced.is_unreserved:
            return attach(session, _write(session, caller, order, facts, priced, job_id))
        try:
            with session.begin_nested():
                job = _write(session, caller, order, facts, priced, job_id)
                # Under the job's own id, as there is no quote.
                reserve_by(
                    session,
                    caller.account_id,
                    job_id,
                    free_seconds=priced.price.free_seconds_used,
                    promotions=priced.price.promotions,
                    book=priced.book,
                    membership=priced.membership,
                    month=facts.month,
                )
        except ReservationConflict:
            if not retries_left:
                raise
            facts = read_order_facts(session, caller, order)
        else:
            # Not within the savepoint: the session would keep the object of a job that was taken back.
            return attach(session, job)
    raise AssertionError("the last try returns or raises")


def _price(session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts) -> Priced:
    """Return the price of the order's quote, whose row is then locked, or the price of now."""
    if order.request.quote_id:
        priced = open_quote(session, caller, order.request.quote_id, order.request, spec=order.spec)
        check_memory(session, caller, priced.spec, priced.model)
        return priced
    if order.spec is not None:
        # Derived from another job: the Spec is resolved, and only its price is open.
        model = load_catalog(get_settings().catalog_dir)[order.spec.model]
        check_memory(session, caller, order.spec, model)
        return price_spec(session, caller, order.spec, model, facts=facts)
    return estimate(session, caller, order.request, mode=order.mode, facts=facts)


def _check(session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts, priced: Priced) -> None:
    """Refuse an order that its caller, its account or the service does not allow; its money is checked later."""
    request = order.request
    if request.callback_url is not None:
        check_url(request.callback_url, field="callback_url")
    _check_cap(request, priced.price.total)
    facts.check_queue(caller, priced.membership)
    facts.check_project(caller, request.project)
    if facts.has_pause:
        check_intake(session, account_id=caller.account_id, model=priced.spec.model)
    check_terms(session, priced.model, accepted=facts.accepted_terms)
    check_inputs(session, priced.spec)


def _check_cap(request: VideoRequest, total: Money) -> None:
    if request.max_price is None:
        return
    currency = total.currency
    try:
        cap = Money.parse(f"{request.max_price:f}", currency)
    except ValueError as error:
        raise AppError("invalid_request", f"{error}.", field="max_price", currency=currency) from None
    if total.minor > cap.minor:
        message = f"The price is {total.text} {currency}, above the cap of {cap.text}."
        raise AppError("price_above_cap", message, field="max_price", price=total.text, currency=currency)


def _write(
    session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts, priced: Priced, job_id: str
) -> Job:
    """Write the order in one statement, and return its job, which is not the session's own yet."""
    moment, membership = facts.now, priced.membership
    pool = TEST_POOL if caller.test else priced.model.pool
    units = plan_units(priced.spec, priced.model, pool)
    columns = _job_columns(caller, order, facts, priced) | {
        "id": job_id,
        "pool": pool,
        "units_total": sum(unit["kind"] == "segment" for unit in units),
        "created_at": moment,
    }
    job = new_row(Job, columns)
    event = new_job_event(session, job, "video.created", sequence=1, endpoints=facts.endpoints)
    inputs = {
        "job": json.dumps(columns | {"metadata": columns["extra"]}, default=datetime.isoformat),
        "job_id": job_id,
        "account_id": caller.account_id,
        "project_id": facts.project_id,
        "test": caller.test,
        "quote_id": columns["quote_id"],
        "now": moment,
        "units": json.dumps(units),
        "pools": sorted({pool, FINISH_POOL}),
        "weight": Decimal(membership.share_weight),
        "concurrency": membership.concurrency if facts.concurrency is None else facts.concurrency,
        "key": scoped_key(caller, order),
        "fingerprint": order.fingerprint,
        "overtook": order.is_retry and order.idempotency_key is None,
        **event.inputs(),
    }
    _WRITE.run(session, inputs)
    if priced.quote is not None:
        priced.quote.state, priced.quote.job_id = QuoteState.REDEEMED, job_id
        mark_written(priced.quote, "state", "job_id")
    return job


def _job_columns(caller: Caller, order: OrderIdentity, facts: OrderFacts, priced: Priced) -> dict[str, Any]:
    """Return the attributes of the order's job, those that it does not have yet too."""
    request, spec = order.request, priced.spec
    deadlines = deadlines_of(priced.book.tier(spec.service_tier), facts.now, request.expires_after)
    later = dict.fromkeys(inspect(Job).column_attrs.keys())
    return {
        **later,
        "account_id": caller.account_id,
        "project_id": facts.project_id,
        "key_id": caller.key_id,
        "test": caller.test,
        "state": str(JobState.QUEUED),
        "stage": str(Stage.WAITING),
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec.fingerprint(),
        "model": spec.model,
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
        "parent_id": order.parent_id,
        "parent_kind": order.parent_kind,
        "callback_url": request.callback_url,
        "callback_events": None if order.callback_events is None else list(order.callback_events),
        "progress": 0,
        "units_done": 0,
        "cancel_at": None if order.cancel_after is None else facts.now + timedelta(seconds=order.cancel_after),
        "not_after": deadlines.not_after,
        "promote_at": deadlines.promote_at,
        "start_by": deadlines.start_by,
        "links_revoked": 0,
        "traceparent": order.traceparent,
        "request_id": current_ids().get("request_id"),
    }


def _hold_price(session: Session, caller: Caller, job: Job, facts: OrderFacts) -> None:
    placed = place_hold(
        session,
        account_id=job.account_id,
        job_id=job.id,
        # A test job costs nothing, but has a hold like any other, so that its end follows the same path.
        amount=0 if job.test else job.total,
        month=facts.month,
        currency=facts.currency,
        project_id=job.project_id,
        key_id=caller.key_id,
    )
    remember_committed_spend(session, job.id, placed.spend)
    if placed.is_low:
        publish_low_balance(session, job.account_id)
