"""Record what checkers found, and the reviews that begin or end with it."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import now
from app.db import after_commit, new_id
from app.metrics import MODERATION
from app.moderation.outcomes import CheckStage, Decision, Finding, Outcome
from app.moderation.tables import ModerationOutcome


def record_before_order(
    session: Session, finding: Finding, stage: CheckStage, *, account_id: str, test: bool, interface: str
) -> None:
    """Record a finding about what is no job yet; an equal one of the account and the day is counted in its row."""
    facts = _columns(finding, stage, now(session))
    row = insert(ModerationOutcome).values(account_id=account_id, test=test, interface=interface, **facts)
    session.execute(
        row.on_conflict_do_update(
            index_elements=["account_id", "day", "checker", "rule", "version", "stage", "outcome", "test", "interface"],
            index_where=ModerationOutcome.job_id.is_(None),
            set_={"times": ModerationOutcome.times + 1, "last_at": row.excluded.last_at, "score": row.excluded.score},
        )
    )
    MODERATION.labels(stage, finding.outcome, finding.category, finding.checker).inc()


def record_review(
    session: Session,
    finding: Finding,
    stage: CheckStage,
    *,
    job_id: str,
    account_id: str,
    test: bool,
    interface: str,
    due_at: datetime,
    at_deadline: Decision,
) -> str:
    """Record that a job waits for a moderator, by when, and what holds then. Returns the id of the review.

    The caller holds the job, or writes it in this transaction. A job has one open review at most.
    """
    facts = _columns(finding, stage, now(session)) | {"due_at": due_at, "at_deadline": str(at_deadline)}
    row = insert(ModerationOutcome).values(
        job_id=job_id, account_id=account_id, test=test, interface=interface, **facts
    )
    session.execute(row)
    count = MODERATION.labels(stage, finding.outcome, finding.category, finding.checker)
    after_commit(session, count.inc)
    return str(facts["id"])


def record_about_job(
    session: Session, finding: Finding, stage: CheckStage, *, job_id: str, account_id: str, test: bool, interface: str
) -> None:
    """Record what was found of a job that needs no review: what is refused at once, or could not be checked."""
    if finding.outcome is Outcome.REVIEW:
        raise ValueError("a review begins with record_review")
    facts = _columns(finding, stage, now(session))
    session.execute(
        insert(ModerationOutcome).values(job_id=job_id, account_id=account_id, test=test, interface=interface, **facts)
    )
    count = MODERATION.labels(stage, finding.outcome, finding.category, finding.checker)
    after_commit(session, count.inc)


def allowed_categories(session: Session, job_id: str, stage: CheckStage) -> set[str]:
    """Return the categories of what a stage found of a job that a moderator, or the policy, has allowed."""
    allowed = select(ModerationOutcome.category).where(
        ModerationOutcome.job_id == job_id,
        ModerationOutcome.stage == stage,
        ModerationOutcome.decision == Decision.ALLOW,
    )
    return set(session.scalars(allowed))


def withdraw_review(session: Session, job_id: str) -> None:
    """End the open review of a job that ends otherwise, if it has one; the caller holds the job."""
    session.execute(
        update(ModerationOutcome)
        .where(ModerationOutcome.job_id == job_id, ModerationOutcome.outcome == Outcome.REVIEW)
        .where(ModerationOutcome.decision.is_(None))
        .values(decision=str(Decision.WITHDRAWN), decided_at=now(session))
    )


def _columns(finding: Finding, stage: CheckStage, moment: datetime) -> dict[str, Any]:
    return {
        "id": new_id("moderation"),
        "stage": str(stage),
        "outcome": str(finding.outcome),
        "category": finding.category,
        "score": finding.score,
        "checker": finding.checker,
        "rule": finding.rule,
        "version": finding.version,
        "day": moment.astimezone(UTC).date(),
        "times": 1,
        "first_at": moment,
        "last_at": moment,
    }
