"""Decide several reviews in one action: of one account, at one stage, about the same words and files."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.admin.moderation import MODERATORS, find_with_job
from app.audit_log.actor import Actor
from app.db import commit_early
from app.errors import AppError
from app.jobs.review import decide_review, find_review
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.moderation.outcomes import Decision
from app.moderation.tables import IS_OPEN, ModerationOutcome
from app.roles import require_role

# Reviews of one action.
BATCH_MAX = 50


class BatchedReview(NamedTuple):
    """A review of an action. `is_new`: this action decided it; otherwise it had ended before."""

    review: ModerationOutcome
    is_new: bool


def reviews_alike(session: Session, review: ModerationOutcome, job: Job) -> list[ModerationOutcome]:
    """Return the other reviews that wait about the same words and files of the account, the oldest first.

    These are the films of one call, and orders that were repeated. At most BATCH_MAX of the account are looked at.
    """
    query = (
        select(ModerationOutcome, Job)
        .join(Job, Job.id == ModerationOutcome.job_id)
        .where(text(IS_OPEN), ModerationOutcome.account_id == review.account_id)
        .where(ModerationOutcome.stage == review.stage, ModerationOutcome.id != review.id)
        .order_by(ModerationOutcome.first_at, ModerationOutcome.id)
    )
    content = _content(job)
    return [each for each, other in session.execute(query.limit(BATCH_MAX - 1)) if _content(other) == content]


def decide_batch(
    session: Session, actor: Actor, review_ids: Sequence[str], decision: Decision, *, reason: str
) -> list[BatchedReview]:
    """Decide reviews that are alike, each in a transaction of its own, and each with its entry in the audit log.

    Ends of several jobs of one account in one transaction would lock out of order. What somebody has decided meanwhile
    stays as it is and is returned as such, so an action that was interrupted can be repeated.

    Raises AppError `forbidden`, `not_found`, and `invalid_request` for none or too many reviews, for reviews that are
    not alike, and as `decide_review` does; nothing is decided then.
    """
    require_role(actor, *MODERATORS)
    distinct = list(dict.fromkeys(review_ids))
    if not 0 < len(distinct) <= BATCH_MAX:
        raise AppError("invalid_request", f"Name 1 to {BATCH_MAX} reviews.", field="reviews", value=len(distinct))
    _check_alike(session, distinct)
    results = []
    for review_id in distinct:
        try:
            with session.begin_nested():
                decide_review(session, actor, review_id, decision, reason=reason)
            is_new = True
        except AppError as error:
            if error.code != "conflict":
                raise
            is_new = False
        results.append(BatchedReview(find_review(session, review_id), is_new))
        commit_early(session)
    return results


def _check_alike(session: Session, review_ids: Sequence[str]) -> None:
    """Raise AppError unless somebody who has seen one of the orders has seen the words and files of all."""
    first, job = find_with_job(session, review_ids[0])
    for review_id in review_ids[1:]:
        review, other = find_with_job(session, review_id)
        is_alike = (review.account_id, review.stage) == (first.account_id, first.stage)
        if not is_alike or _content(other) != _content(job):
            message = "Only orders of one account with the same words and files are decided in one action."
            raise AppError("invalid_request", message, field="reviews", value=review_id)


def _content(job: Job) -> tuple[object, ...]:
    """Return what a moderator sees of an order before it is made: its words, pictures and clips."""
    spec = Spec.model_validate(job.spec)
    shots = tuple(
        (shot.prompt, shot.negative_prompt, shot.first_frame, shot.last_frame, shot.reuse_clips) for shot in spec.shots
    )
    return spec.style, spec.video, shots
