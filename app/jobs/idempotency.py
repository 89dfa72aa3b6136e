"""Idempotency of orders: recognise a repeated call and find the job that it already created."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.accounts.caller import Caller
from app.clock import now
from app.errors import AppError
from app.jobs.group_tables import Group
from app.jobs.order_warnings import OrderWarning
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.tables import Job, Quote, Submission
from app.moderation.outcomes import CheckedText, CheckStage, Finding, Outcome
from pricing.rate_key import Mode

IDEMPOTENCY_HOURS = 24
# A client library that retries by itself sends no key; within this time the same body means the same order.
KEYLESS_RETRY_MINUTES = 10


@dataclass(frozen=True)
class CheckedOrder:
    """The words of an order as moderation has checked them, by which versions, and what stands against them.

    A finding is one that calls for a review, or of a call that repeats one which was accepted. `files` are the assets
    whose pictures were checked.
    """

    texts: tuple[CheckedText, ...]
    checked_by: str
    finding: Finding | None = None
    stage: CheckStage = CheckStage.PROMPT  # of the finding
    files: frozenset[str] = frozenset()

    @property
    def review(self) -> Finding | None:
        """What a moderator is to decide on before the film is made, or None."""
        return self.finding if self.finding is not None and self.finding.outcome is Outcome.REVIEW else None


@dataclass(frozen=True)
class OrderIdentity:
    """An order as it was called: the request, the API interface, and the facts by which a repetition is recognised."""

    request: VideoRequest
    door: str = "native"
    mode: Mode | None = None
    idempotency_key: str | None = None
    fingerprint: str = ""
    is_retry: bool = False
    answers_with_film: bool = False  # without a key, `identical_job` decides what it repeats
    is_first_try: bool = False  # of a client library that would repeat the call by itself
    parent_id: str | None = None
    parent_kind: str | None = None
    earlier_prompts: str = ""  # of the film that it edits or extends, see app.jobs.check_order.film_prompts
    spec: Spec | None = None  # derived from another job and already resolved
    traceparent: str | None = None
    callback_events: tuple[str, ...] | None = None  # see Job.callback_events
    cancel_after: int | None = None  # seconds after which what is not finished is cancelled
    warnings: tuple[OrderWarning, ...] = ()  # what the interface ignored of the call
    checked: CheckedOrder | None = None  # see app.jobs.check_order


def body_fingerprint(method: str, path: str, body: bytes) -> str:
    """Return the SHA-256 by which two calls count as the same call."""
    return hashlib.sha256(b"\n".join([method.encode(), path.encode(), body])).hexdigest()


def earlier_job(session: Session, caller: Caller, order: OrderIdentity) -> Job | None:
    """Return the job that an earlier, identical call created, or None.

    With an Idempotency-Key, the key decides for 24 hours; another body under it raises AppError
    `idempotency_mismatch`. A retry without a key is recognised by its API key and its body for 10 minutes, and a call
    with a quote for as long as the quote exists. A retry may overtake the call that it repeats: that one is answered
    with the job that the retry made, once. No call is answered with a job that its caller may not see.
    """
    moment = now(session)
    submission: Submission | None = None
    if order.idempotency_key is not None:
        submission = session.scalar(
            select(Submission)
            .where(Submission.account_id == caller.account_id, Submission.key == scoped_key(caller, order))
            .where(Submission.created_at > moment - timedelta(hours=IDEMPOTENCY_HOURS))
        )
        if submission is not None and submission.fingerprint != order.fingerprint:
            message = "This Idempotency-Key was used for another request; use a new key for a new order."
            raise AppError("idempotency_mismatch", message, field="Idempotency-Key", job=submission.job_id)
    elif order.answers_with_film:
        same = identical_job(session, caller, order)
        if same is not None:
            return same
    elif order.is_retry:
        submission = session.scalar(_same_calls(caller, order, moment).limit(1))
    elif order.is_first_try:
        overtaken = _same_calls(caller, order, moment).where(Submission.overtook).limit(1)
        submission = session.scalar(overtaken.with_for_update(of=Submission))
        if submission is not None:
            # Only one call was overtaken; the next one like it is another order.
            submission.overtook = False
            session.flush()
    if submission is None and order.request.quote_id is not None and order.fingerprint:
        # A quote is redeemed once, and the call that redeemed it may be repeated.
        redeemed = (
            select(Submission)
            .join(Quote, Quote.job_id == Submission.job_id)
            .join(Job, Job.id == Submission.job_id)
            .where(Quote.id == order.request.quote_id, Quote.account_id == caller.account_id)
            .where(Submission.fingerprint == order.fingerprint, Quote.test == caller.test)
        )
        if caller.project_id is not None:
            redeemed = redeemed.where(Job.project_id == caller.project_id)
        submission = session.scalar(redeemed)
    return session.get(Job, submission.job_id) if submission else None


def _same_calls(caller: Caller, order: OrderIdentity, moment: datetime) -> Select[Submission]:
    """Select the recent submissions with the body and the API key of an order, newest first."""
    since = moment - timedelta(minutes=KEYLESS_RETRY_MINUTES)
    return _identical_calls(caller, order).where(Submission.created_at > since)


def _identical_calls(caller: Caller, order: OrderIdentity) -> Select[Submission]:
    """Select all submissions with the body and the API key of an order, newest first."""
    return (
        select(Submission)
        .join(Job, Job.id == Submission.job_id)
        .where(Submission.account_id == caller.account_id, Submission.fingerprint == order.fingerprint)
        .where(Job.key_id.is_not_distinct_from(caller.key_id), Job.test == caller.test)
        .order_by(Submission.created_at.desc())
    )


def identical_job(session: Session, caller: Caller, order: OrderIdentity) -> Job | None:
    """Return the newest job of an identical call of the same API key that runs or has just ended, or None.

    For calls that are answered with the film itself: their client may repeat one for as long as the film is made, and
    for 10 minutes after its end. A job that ended without a film, or whose film is no longer there, is no answer. Jobs
    that were ordered together are one answer, the first of them: while one of them runs, and then while one has a film.
    """
    since = now(session) - timedelta(minutes=KEYLESS_RETRY_MINUTES)
    of_group = aliased(Job)
    has_film = exists().where(of_group.group_id == Group.id, *_has_film(of_group))
    is_answer = or_(
        and_(Job.group_id.is_(None), Job.finished_at.is_(None), *_is_there(Job)),
        and_(Job.group_id.is_(None), Job.finished_at > since, *_has_film(Job)),
        and_(Job.group_id.is_not(None), Group.finished_at.is_(None)),
        and_(Group.finished_at > since, has_film),
    )
    calls = _identical_calls(caller, order).outerjoin(Group, Group.id == Job.group_id)
    submission = session.scalar(calls.where(is_answer).limit(1))
    return session.get(Job, submission.job_id) if submission else None


def _is_there(job: type[Job]) -> tuple[ColumnElement[bool], ...]:
    return job.deleted_at.is_(None), job.files_removed_at.is_(None)


def _has_film(job: type[Job]) -> tuple[ColumnElement[bool], ...]:
    return job.film_key.is_not(None), *_is_there(job)


def scoped_key(caller: Caller, order: OrderIdentity) -> str | None:
    """Return the stored key, prefixed so that test and live orders, and those of two projects, never collide."""
    if order.idempotency_key is None:
        return None
    mode = "test" if caller.test else "live"
    return f"{mode}{'/' + caller.project_id if caller.project_id else ''}:{order.idempotency_key}"


def free_key(session: Session, caller: Caller, order: OrderIdentity) -> None:
    """Clear the order's key, if it has one, on an expired submission, so that the key may be used again."""
    if order.idempotency_key is not None:
        mine = (Submission.account_id == caller.account_id, Submission.key == scoped_key(caller, order))
        session.execute(update(Submission).where(*mine).values(key=None))
