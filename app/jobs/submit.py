"""Accept an order, in one transaction: read what it has to know, price it, write it, and hold its money."""

import json
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import load_catalog
from app.db import after_commit, new_id
from app.errors import AppError
from app.jobs.capability import check_gpu
from app.jobs.check_files import require_checked_files
from app.jobs.check_order import require_checked
from app.jobs.declared_inputs import check_declared, with_likeness
from app.jobs.file_references import check_inputs
from app.jobs.file_retention import check_retention
from app.jobs.idempotency import OrderIdentity, earlier_job, free_key, scoped_key
from app.jobs.intake import check_intake
from app.jobs.low_balance import publish_low_balance
from app.jobs.model_life import check_not_retired
from app.jobs.model_terms import check_terms
from app.jobs.open_quotes import open_quotes
from app.jobs.order_facts import OrderFacts, read_order_facts
from app.jobs.order_rows import order_rows
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.jobs.priced import Priced, price_films, total_of
from app.jobs.project_alert import publish_project_alert
from app.jobs.publish_event import event_inputs, new_job_event
from app.jobs.quote import PRICE_RETRIES_MAX, estimate_films, price_spec, uses_of
from app.jobs.review import record_order_review
from app.jobs.schemas import VideoRequest
from app.jobs.states import QuoteState, Stage
from app.jobs.tables import Job
from app.jobs.visible_label import labelled
from app.logs import add_log_ids
from app.metrics import JOBS_ACCEPTED
from app.moderation.repeaters import stopped_error
from app.net import check_url
from app.prices.reservations import ReservationConflict, reserve_by
from app.settings import get_settings
from app.sql_statements import attach, mark_written, new_row, sql_file
from app.wakeups import wake_after_commit
from app.wallet.committed_spend import remember_spends
from app.wallet.hold import place_holds
from pricing.money import Money

_WRITE = sql_file("app.jobs", "order_write.sql")


def submit(session: Session, caller: Caller, order: OrderIdentity) -> Job:
    """Accept an order and return its job, the first of a group where it is for several films.

    Checked before by `check_order`; a repeated call returns the job that it returned at first. Raises AppError and
    writes nothing when the order cannot be made, priced, afforded or queued as a whole.
    """
    facts = read_order_facts(session, caller, order)
    if facts.may_repeat:
        earlier = earlier_job(session, caller, order)
        if earlier is not None:
            return earlier
        free_key(session, caller, order)
    facts.check_active()
    if facts.is_stopped:
        raise stopped_error()
    order = require_checked(caller, order)
    jobs = _write_order(session, caller, order, facts)
    _begin_reviews(session, order, jobs)
    _hold_prices(session, caller, jobs, facts)
    first = jobs[0]
    if first.stage != Stage.MODERATING:
        wake_after_commit(session, first.pool)
    accepted = JOBS_ACCEPTED.labels(first.model, str(first.spec["service_tier"]), first.door, first.test)
    after_commit(session, lambda: accepted.inc(len(jobs)))
    add_log_ids(job_id=first.id)
    return first


def _begin_reviews(session: Session, order: OrderIdentity, jobs: list[Job]) -> None:
    review = None if order.checked is None else order.checked.review
    if order.checked is not None and review is not None:
        for job in jobs:
            record_order_review(session, job, review, order.checked.stage)


def _write_order(session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts) -> list[Job]:
    """Price the order, check it, and write it.

    Free seconds and promotions are reserved after the jobs are written, because settlements lock the share before those
    counters (see app.lock_order). When another request used them meanwhile, what was written is taken back with its
    locks, and the order is priced again.
    """
    ids: list[str] = []
    for retries_left in reversed(range(PRICE_RETRIES_MAX)):
        films = _price(session, caller, order, facts)
        ids = ids or [new_id("video") for _ in films]
        _check(session, caller, order, facts, films)
        first = films[0]
        if caller.test or not any(film.is_unreserved for film in films):
            return [attach(session, job) for job in _write(session, caller, order, facts, films, ids)]
        try:
            with session.begin_nested():
                jobs = _write(session, caller, order, facts, films, ids)
                # Under the jobs' own ids, as there is no quote.
                reserve_by(
                    session,
                    caller.account_id,
                    uses_of(ids, films),
                    book=first.book,
                    membership=first.membership,
                    month=facts.month,
                )
        except ReservationConflict:
            if not retries_left:
                raise
            facts = read_order_facts(session, caller, order)
        else:
            # Not within the savepoint: the session would keep the objects of jobs that were taken back.
            return [attach(session, job) for job in jobs]
    raise AssertionError("the last try returns or raises")


def _price(session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts) -> tuple[Priced, ...]:
    """Return the prices of the order's films: those of its quote, whose row is then locked, or those of now."""
    request = order.request
    if request.quote_id:
        films = open_quotes(session, caller, request.quote_id, request, spec=order.spec)
        check_gpu(session, caller, films[0].spec, films[0].model)
        return films
    if order.spec is not None:
        spec, model = order.spec, load_catalog(get_settings().catalog_dir)[order.spec.model]
        check_declared(session, caller.account, spec, request)
        spec = labelled(with_likeness(session, spec, request), caller.account)
        check_gpu(session, caller, spec, model)
        return price_films(price_spec(session, caller, spec, model, facts=facts), request)
    return estimate_films(session, caller, request, mode=order.mode, facts=facts)


def _check(
    session: Session, caller: Caller, order: OrderIdentity, facts: OrderFacts, films: tuple[Priced, ...]
) -> None:
    """Refuse an order that its caller, its account or the service does not allow; its money is checked later."""
    request, first = order.request, films[0]  # its films differ only in their seeds
    if request.callback_url is not None:
        check_url(request.callback_url, field="callback_url")
    _check_cap(request, total_of(films))
    facts.check_queue(caller, first.membership, films=len(films))
    facts.check_project(caller, request.project)
    if facts.has_pause:
        check_intake(session, account_id=caller.account_id, model=first.spec.model)
    check_retention(request.retention, first.membership)
    check_not_retired(first.model, facts.now)
    check_terms(session, first.model, accepted=facts.accepted_terms)
    check_inputs(session, first.spec)
    require_checked_files(session, order, first.spec)


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
    session: Session,
    caller: Caller,
    order: OrderIdentity,
    facts: OrderFacts,
    films: tuple[Priced, ...],
    ids: list[str],
) -> list[Job]:
    """Write the order in one statement, and return its jobs, which are not the session's own yet."""
    first = films[0]
    pool = TEST_POOL if caller.test else first.model.pool
    group_id = new_id("group") if len(films) > 1 else None
    rows, units = order_rows(caller, order, facts, films, ids, pool=pool, group_id=group_id)
    jobs = [new_row(Job, row) for row in rows]
    events = [new_job_event(session, job, "video.created", sequence=1, endpoints=facts.endpoints) for job in jobs]
    inputs = {
        "jobs": json.dumps([row | {"metadata": row["extra"]} for row in rows], default=datetime.isoformat),
        "job_id": ids[0],
        "account_id": caller.account_id,
        "project_id": facts.project_id,
        "test": caller.test,
        "group_id": group_id,
        "size": len(films),
        "group_callback_url": order.request.callback_url,
        "quotes": [film.quote.id for film in films if film.quote is not None],
        "now": facts.now,
        "units": json.dumps(units),
        "pools": sorted({pool, FINISH_POOL}),
        "weight": Decimal(first.membership.share_weight),
        "concurrency": first.membership.concurrency if facts.concurrency is None else facts.concurrency,
        "key": scoped_key(caller, order),
        "fingerprint": order.fingerprint,
        "overtook": order.is_retry and order.idempotency_key is None,
        "traceparent": order.traceparent,
        "request_id": jobs[0].request_id,
        "event_type": "video.created",
        **event_inputs(events),
    }
    _WRITE.run(session, inputs)
    _redeem(films, jobs)
    return jobs


def _redeem(films: tuple[Priced, ...], jobs: list[Job]) -> None:
    """Let the quotes of an order know what the statement has written: that they are redeemed, and by which jobs."""
    for job, film in zip(jobs, films, strict=True):
        if film.quote is not None:
            film.quote.state, film.quote.job_id = QuoteState.REDEEMED, job.id
            mark_written(film.quote, "state", "job_id")


def _hold_prices(session: Session, caller: Caller, jobs: list[Job], facts: OrderFacts) -> None:
    first = jobs[0]
    placed = place_holds(
        session,
        # A test job costs nothing, but has a hold like any other, so that its end follows the same path.
        {job.id: 0 if job.test else job.total for job in jobs},
        account_id=first.account_id,
        month=facts.month,
        currency=facts.currency,
        project_id=first.project_id,
        key_id=caller.key_id,
    )
    remember_spends(session, first.id, placed.spends)
    if placed.is_low:
        publish_low_balance(session, first.account_id)
    if placed.alert_used is not None and first.project_id is not None:
        publish_project_alert(
            session, first.project_id, month=facts.month, used=placed.alert_used, currency=facts.currency
        )
