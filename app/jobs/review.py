"""Reviews: an order that a moderator decides on waits with its hold, and no worker can claim any of its work.

The units of such a job are blocked, so a claim, which reads ready ones, costs what it always does. Each review is
decided once: by a moderator, by the policy at its deadline, or by the end of its job.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import after_commit
from app.errors import AppError, not_found
from app.jobs.deadlines import deadlines_of
from app.jobs.fair_share import lock_shares
from app.jobs.plan import FINISH_POOL
from app.jobs.queue_tables import Pool, Share, Unit
from app.jobs.settle import fail
from app.jobs.states import JobState, Stage, UnitState, is_final
from app.jobs.tables import Job
from app.metrics import REVIEWS_DECIDED
from app.moderation.outcomes import CheckStage, Decision, Finding, Outcome
from app.moderation.policy import moderation_policy
from app.moderation.record import record_review
from app.moderation.tables import IS_OPEN, ModerationOutcome
from app.prices.find import recorded_book
from app.progress import publish_after_commit
from app.wakeups import wake_after_commit

# Who decides a review that no moderator has decided by its deadline.
POLICY_ACTOR = Actor("policy", "scheduler", frozenset())
REASON_MAX = 500
# What a refused job's customer reads: the stage and the category, and none of the words.
REFUSED_MESSAGES = {
    CheckStage.PROMPT: "The prompt was refused (stage prompt, category {0}). Nothing is charged.",
    CheckStage.INPUT: "A picture or clip was refused (stage input, category {0}). Nothing is charged.",
    CheckStage.OUTPUT: "The film was refused (stage output, category {0}). Nothing is charged.",
}


def review_due(tier: str, moment: datetime) -> datetime:
    """Return by when an order of a service tier is decided whose review begins at a moment."""
    policy = moderation_policy().review
    return moment + timedelta(hours=policy.priority_hours if tier == "priority" else policy.hours)


def record_order_review(session: Session, job: Job, finding: Finding, stage: CheckStage) -> str:
    """Record the review of a job whose stage is `moderating` and whose units are blocked. Returns the review's id."""
    due_at = job.review_due_at or review_due(str(job.spec["service_tier"]), now(session))
    return record_review(
        session,
        finding,
        stage,
        job_id=job.id,
        account_id=job.account_id,
        test=job.test,
        interface=job.door,
        due_at=due_at,
        at_deadline=Decision(moderation_policy().review.at_deadline),
    )


def hold_for_review(session: Session, job: Job, finding: Finding, stage: CheckStage) -> str:
    """Stop an unfinished job until a moderator decides; the caller holds the job. Returns the review's id.

    Its ready units are blocked. A take that runs is the caller's to end: its unit must not stay running. Raises
    AppError `already_final`, and `conflict` for a job that waits for a review already.
    """
    if is_final(job.state):
        raise AppError("already_final", f"The job has already ended as {job.state}.", state=job.state)
    if job.stage == Stage.MODERATING:
        raise AppError("conflict", "The job waits for a review already.", stage=job.stage)
    lock_shares(session, job.account_id, {job.pool, FINISH_POOL})
    ready = update(Unit).where(Unit.job_id == job.id, Unit.state == UnitState.READY)
    session.execute(ready.values(state=str(UnitState.BLOCKED)))
    job.stage = str(Stage.MODERATING)
    job.review_due_at = review_due(str(job.spec["service_tier"]), now(session))
    session.flush()
    publish_after_commit(session, job.id, {"stage": job.stage})
    return record_order_review(session, job, finding, stage)


def find_review(session: Session, review_id: str) -> ModerationOutcome:
    """Return a review, decided or not. Raises AppError `not_found`."""
    review = session.get(ModerationOutcome, review_id)
    if review is None or review.outcome != Outcome.REVIEW:
        raise not_found("review", review_id)
    return review


def open_review_of(session: Session, job_id: str) -> ModerationOutcome | None:
    """Return the review for which a job waits, or None."""
    return session.scalar(select(ModerationOutcome).where(ModerationOutcome.job_id == job_id, text(IS_OPEN)))


def decide_review(
    session: Session, actor: Actor, review_id: str, decision: Decision, *, reason: str
) -> ModerationOutcome:
    """Let the job of a review go on, or end it: failed with `content_refused`, free. Writes the audit log.

    Of two that decide at once, the second waits for the job and gets `conflict`. Raises AppError `not_found`,
    `invalid_request` without a reason, and `conflict` for a review that was decided or whose job has ended.
    """
    reason = reason.strip()
    if decision is Decision.WITHDRAWN or not 0 < len(reason) <= REASON_MAX:
        message = f"Say why, in at most {REASON_MAX} characters: the log of reviews keeps the reason."
        raise AppError("invalid_request", message, field="reason")
    job_id = find_review(session, review_id).job_id
    # A review is covered by the lock of its job.
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    review = session.get_one(ModerationOutcome, review_id, populate_existing=True)
    if review.decision is not None or job.stage != Stage.MODERATING or is_final(job.state):
        raise AppError("conflict", "This review was decided already.", state=review.decision or job.state)
    moment = now(session)
    review.decision, review.reason = str(decision), reason
    review.decided_at, review.decided_by = moment, actor.person
    session.flush()
    if decision is Decision.ALLOW:
        _go_on(session, job)
    else:
        refused = refused_message(CheckStage(review.stage), review.category)
        fail(session, job, code="content_refused", message=refused)
    facts = {"job": job.id, "account": job.account_id, "stage": review.stage, "category": review.category}
    act = "review.allowed" if decision is Decision.ALLOW else "review.refused"
    record_action(session, actor, act, review.id, **facts, rule=review.rule, reason=reason)
    count = REVIEWS_DECIDED.labels(review.stage, str(decision), "policy" if actor is POLICY_ACTOR else "moderator")
    after_commit(session, count.inc)
    return review


def refused_message(stage: CheckStage, category: str) -> str:
    """Return what the customer of a job reads that was refused at a stage."""
    return REFUSED_MESSAGES[stage].format(category)


def overdue_reviews(session: Session, *, limit: int) -> Sequence[str]:
    """Return the ids of reviews whose deadline has passed, the most overdue first."""
    query = select(ModerationOutcome.id).where(text(IS_OPEN), ModerationOutcome.due_at <= now(session))
    return session.scalars(query.order_by(ModerationOutcome.due_at).limit(limit)).all()


def decide_by_policy(session: Session, review_id: str) -> bool:
    """Decide an overdue review as was stated when it began. Returns False where somebody has decided it meanwhile."""
    review = find_review(session, review_id)
    try:
        with session.begin_nested():
            decision = Decision(review.at_deadline or Decision.REFUSE)
            decide_review(session, POLICY_ACTOR, review_id, decision, reason="Nobody decided by the deadline.")
    except AppError as error:
        if error.code != "conflict":
            raise
        return False
    return True


def _go_on(session: Session, job: Job) -> None:
    """Let a job go on that was allowed: what could be claimed before its review is ready again, at its old place.

    The promises of its service tier count from now: our wait used up none of them. The caller's own `expires_after`
    has gone on.
    """
    pools = {job.pool, FINISH_POOL}
    lock_shares(session, job.account_id, pools)
    _catch_up(session, job.account_id, pools)
    query = select(Unit).where(Unit.job_id == job.id).order_by(Unit.shot, Unit.position).with_for_update()
    units = session.scalars(query.execution_options(populate_existing=True)).all()
    open_shots: set[tuple[str, int]] = set()
    for unit in units:
        if unit.state in (UnitState.DONE, UnitState.DROPPED):
            continue
        # Segments of a shot render one after the other.
        if unit.state == UnitState.BLOCKED and (unit.kind, unit.shot) not in open_shots:
            unit.state = str(UnitState.READY)
        open_shots.add((unit.kind, unit.shot))
    if job.state == JobState.QUEUED:
        job.stage = str(Stage.WAITING)
        _promise_anew(session, job)
    else:
        is_film = any(unit.kind == "finish" and unit.state == UnitState.READY for unit in units)
        job.stage = str(Stage.FINISHING if is_film else Stage.RENDERING)
    job.review_due_at = None
    session.flush()
    publish_after_commit(session, job.id, {"stage": job.stage})
    for pool in sorted(pools):
        wake_after_commit(session, pool)


def _catch_up(session: Session, account_id: str, pools: set[str]) -> None:
    """Raise an account's virtual times to those of its pools: what waited for us earns no credit there."""
    clock = select(Pool.vclock).where(Pool.name == Share.pool).scalar_subquery()
    session.execute(
        update(Share)
        .where(Share.account_id == account_id, Share.pool.in_(pools), Share.vtime < clock)
        .values(vtime=func.greatest(Share.vtime, clock))
    )


def _promise_anew(session: Session, job: Job) -> None:
    book = recorded_book(session, str(job.pricing["book"]), str(job.pricing["book_hash"]))
    deadlines = deadlines_of(book.tier(str(job.spec["service_tier"])), now(session))
    ends = [moment for moment in (deadlines.not_after, job.not_after) if moment is not None]
    job.start_by, job.promote_at = deadlines.start_by, deadlines.promote_at
    job.not_after = min(ends, default=None)
