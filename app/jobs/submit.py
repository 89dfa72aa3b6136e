"""Accept an order: in one transaction the job, its units, its hold, its reservations and its first event."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.accounts.tables import Account, Project
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.db import after_commit, new_id
from app.errors import AppError, not_found
from app.jobs.capability import check_memory
from app.jobs.deadlines import deadlines_of
from app.jobs.fair_share import join_share
from app.jobs.file_references import check_inputs
from app.jobs.idempotency import OrderIdentity, earlier_job, free_key
from app.jobs.intake import check_intake
from app.jobs.low_balance import publish_low_balance
from app.jobs.model_terms import check_terms
from app.jobs.plan import FINISH_POOL, TEST_POOL, enqueue, plan_segments
from app.jobs.publish_event import publish_job_event
from app.jobs.quote import PRICE_RETRIES_MAX, Priced, estimate, price_spec, redeem, reserve_price
from app.jobs.rate_limits import share_of_tests
from app.jobs.resolve import resolved_facts
from app.jobs.schemas import PriceOut, VideoRequest
from app.jobs.spec import Spec
from app.jobs.states import UNFINISHED, JobState
from app.jobs.tables import Job, Submission
from app.logs import add_log_ids, current_ids
from app.metrics import JOBS_ACCEPTED
from app.net import check_url
from app.prices.find import book_by_id
from app.prices.reservations import ReservationConflict
from app.settings import get_settings
from app.wakeups import wake_after_commit
from app.wallet.hold import hold
from pricing.book import PriceBook
from pricing.money import Money
from pricing.rules import Membership


def submit(session: Session, caller: Caller, order: OrderIdentity) -> Job:
    """Accept an order and return its job; a repeated call returns the first job.

    Raises AppError and writes nothing when the order cannot be made, priced, afforded or queued.
    """
    # One submission per account at a time: limits are counted, and a key is looked up, before the job is written.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"submit:{caller.account_id}"))))
    earlier = earlier_job(session, caller, order)
    if earlier is not None:
        return earlier
    require_active(caller)
    job = _write_job(session, caller, order)
    check_intake(session, account_id=caller.account_id, model=job.model)
    check_terms(session, load_catalog(get_settings().catalog_dir)[job.model])
    check_inputs(session, Spec.model_validate(job.spec))
    _hold_price(session, caller, job)
    session.add(
        Submission(
            job_id=job.id,
            account_id=caller.account_id,
            key=free_key(session, caller, order),
            fingerprint=order.fingerprint,
            overtook=order.is_retry and order.idempotency_key is None,
            created_at=job.created_at,
        )
    )
    publish_job_event(session, job, "video.created")
    wake_after_commit(session, job.pool)
    accepted = JOBS_ACCEPTED.labels(job.model, str(job.spec["service_tier"]), job.door, job.test)
    after_commit(session, accepted.inc)
    add_log_ids(job_id=job.id)
    return job


@dataclass(frozen=True)
class Agreed:
    """The terms of an order before the job is written: the Spec, its price, and the price book of both."""

    spec: Spec
    model: VideoModel
    book: PriceBook
    pricing: dict[str, Any]
    body: dict[str, Any]
    currency: str
    total: int  # minor units, as is list_total
    list_total: int
    quote_id: str | None
    priced: Priced | None  # a price of now, whose free seconds and promotions are still to be reserved

    @property
    def membership(self) -> Membership:
        """The membership of the price; its limits apply to this order."""
        return self.book.membership(str(self.pricing["customer"]["membership"]))

    @property
    def reserves(self) -> Priced | None:
        """The price, if free seconds or promotions are to be reserved for it."""
        price = self.priced.price if self.priced is not None else None
        return self.priced if price is not None and (price.free_seconds_used or price.promotions) else None


def _agree(session: Session, caller: Caller, order: OrderIdentity, job_id: str) -> Agreed:
    """Redeem the order's quote, or price it now; the free seconds and promotions of that price are reserved later."""
    request = order.request
    quote = redeem(session, caller, request.quote_id, request, job_id, spec=order.spec) if request.quote_id else None
    if quote is not None:
        spec = Spec.model_validate(quote.spec)
        model = load_catalog(get_settings().catalog_dir)[spec.model]
        check_memory(session, caller, spec, model)
        return Agreed(
            spec=spec,
            model=model,
            book=book_by_id(session, str(quote.pricing["book"])).book,
            pricing=quote.pricing,
            body={name: quote.body[name] for name in PriceOut.model_fields},
            currency=quote.currency,
            total=quote.total,
            list_total=int(quote.body["list_minor"]),
            quote_id=quote.id,
            priced=None,
        )
    priced = _price(session, caller, order)
    return Agreed(
        spec=priced.spec,
        model=priced.model,
        book=priced.book,
        pricing=priced.inputs(),
        body=priced.body(),
        currency=priced.price.currency,
        total=priced.price.total.minor,
        list_total=priced.price.list_total.minor,
        quote_id=None,
        priced=priced,
    )


def _write_job(session: Session, caller: Caller, order: OrderIdentity) -> Job:
    """Write the job and its units, and then reserve the free seconds and promotions of its price.

    Settlements lock the share before those counters (see app.lock_order), so an order does too. When another request
    used them meanwhile, what was written is taken back with its locks, and the order is priced again.
    """
    job_id = new_id("video")
    for retries_left in reversed(range(PRICE_RETRIES_MAX)):
        agreed = _agree(session, caller, order, job_id)
        if order.request.callback_url is not None:
            check_url(order.request.callback_url, field="callback_url")
        _check_cap(order.request, agreed.total, agreed.currency)
        _check_queue(session, caller, agreed.membership)
        unreserved = None if caller.test else agreed.reserves
        if unreserved is None:
            return _write_rows(session, caller, order, job_id, agreed)
        try:
            with session.begin_nested():
                job = _write_rows(session, caller, order, job_id, agreed)
                # Under the job's own id, as there is no quote.
                reserve_price(session, caller, job_id, unreserved)
        except ReservationConflict:
            if not retries_left:
                raise
        else:
            return job
    raise AssertionError("the last try returns or raises")


def _write_rows(session: Session, caller: Caller, order: OrderIdentity, job_id: str, agreed: Agreed) -> Job:
    request, spec, model, moment = order.request, agreed.spec, agreed.model, now(session)
    deadlines = deadlines_of(agreed.book.tier(spec.service_tier), moment, request.expires_after)
    pool = TEST_POOL if caller.test else model.pool
    job = Job(
        id=job_id,
        account_id=caller.account_id,
        project_id=_project(session, caller, request.project),
        key_id=caller.key_id,
        test=caller.test,
        state=JobState.QUEUED,
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.fingerprint(),
        model=spec.model,
        pool=pool,
        pricing=agreed.pricing,
        price=agreed.body,
        quote_id=agreed.quote_id,
        total=agreed.total,
        list_total=agreed.list_total,
        currency=agreed.currency,
        prompt="\n".join(shot.prompt for shot in spec.shots),
        extra=dict(request.metadata),
        resolved=resolved_facts(spec, model),
        door=order.door,
        parent_id=order.parent_id,
        parent_kind=order.parent_kind,
        callback_url=request.callback_url,
        units_total=len(plan_segments(spec, model)),
        created_at=moment,
        not_after=deadlines.not_after,
        promote_at=deadlines.promote_at,
        start_by=deadlines.start_by,
        traceparent=order.traceparent,
        request_id=current_ids().get("request_id"),
    )
    session.add(job)
    session.flush()
    # The shares before the units, whose lanes they cover: see app.lock_order.
    _join_pools(session, caller, (pool, FINISH_POOL), agreed.membership)
    enqueue(session, job_id=job.id, account_id=job.account_id, spec=spec, model=model, pool=pool, at=moment)
    return job


def _join_pools(session: Session, caller: Caller, pools: tuple[str, ...], membership: Membership) -> None:
    concurrency = _concurrency(session, caller, membership)
    for pool in sorted(pools):
        join_share(session, pool, caller.account_id, weight=Decimal(membership.share_weight), concurrency=concurrency)


def _price(session: Session, caller: Caller, order: OrderIdentity) -> Priced:
    if order.spec is not None:
        # Derived from another job: the Spec is resolved, and only its price is open.
        model = load_catalog(get_settings().catalog_dir)[order.spec.model]
        check_memory(session, caller, order.spec, model)
        return price_spec(session, caller, order.spec, model)
    return estimate(session, caller, order.request, mode=order.mode)


def _check_cap(request: VideoRequest, total: int, currency: str) -> None:
    if request.max_price is not None:
        try:
            cap = Money.parse(f"{request.max_price:f}", currency)
        except ValueError as error:
            raise AppError("invalid_request", f"{error}.", field="max_price", currency=currency) from None
        if total > cap.minor:
            price = Money(total, currency).text
            message = f"The price is {price} {currency}, above the cap of {cap.text}."
            raise AppError("price_above_cap", message, field="max_price", price=price, currency=currency)


def _check_queue(session: Session, caller: Caller, membership: Membership) -> None:
    limit = session.get_one(Account, caller.account_id).queue_limit
    limit = membership.queue_limit if limit is None else limit
    if caller.test:
        limit = share_of_tests(limit)
    waiting = session.scalar(
        select(func.count()).where(
            Job.account_id == caller.account_id, Job.test == caller.test, Job.state.in_(UNFINISHED)
        )
    )
    if (waiting or 0) >= limit:
        mode = "unfinished test jobs" if caller.test else "unfinished jobs"
        message = f"The account has {waiting} {mode}; its membership allows {limit}."
        raise AppError("queue_full", message, allowed=limit)


def _concurrency(session: Session, caller: Caller, membership: Membership) -> int:
    own = session.get_one(Account, caller.account_id).concurrency
    return membership.concurrency if own is None else own


def _project(session: Session, caller: Caller, project_id: str | None) -> str | None:
    """Return the project of a new job. A key of a project can order for that project only.

    Raises AppError `not_found`, `forbidden`, and `conflict` when the key's own project is archived.
    """
    if project_id is None:
        if caller.project_id is not None and session.get_one(Project, caller.project_id).archived_at is not None:
            message = "The project of this key is archived and accepts no new jobs."
            raise AppError("conflict", message, field="project", project=caller.project_id)
        return caller.project_id
    project = session.get(Project, project_id)
    if project is None or project.account_id != caller.account_id or project.archived_at is not None:
        raise not_found("project", project_id)
    if caller.project_id not in (None, project_id):
        raise AppError("forbidden", "This key belongs to another project.", field="project")
    return project_id


def _hold_price(session: Session, caller: Caller, job: Job) -> None:
    # A test job costs nothing, but has a hold like any other, so that its end follows the same path.
    hold(
        session,
        account_id=job.account_id,
        job_id=job.id,
        amount=0 if job.test else job.total,
        project_id=job.project_id,
        key_id=caller.key_id,
    )
    publish_low_balance(session, job.account_id)
