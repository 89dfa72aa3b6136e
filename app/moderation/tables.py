"""The table of what checkers and moderators have decided."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, Date, Double, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of
from app.moderation.outcomes import CheckStage, Decision, Outcome

# A review that waits for its decision; these rows are few, however many there have been.
IS_OPEN = "outcome = 'review' AND decision IS NULL"


class ModerationOutcome(Base):
    """What a checker decided against, or could not check. What was matched is not kept.

    Refusals before an order have no job: equal ones of one account and day are one row with their number, so that
    nobody fills the table. What was allowed has no row here; each job names what it was checked by. A review belongs
    to a job, which waits for the decision; it is the review's own row that holds it.
    """

    __tablename__ = "moderation_outcomes"
    __table_args__ = (
        one_of("stage", CheckStage),
        one_of("outcome", Outcome),
        one_of("decision", Decision),
        one_of("at_deadline", (Decision.ALLOW, Decision.REFUSE)),
        CheckConstraint("(decision IS NULL) = (decided_at IS NULL)", name="decided_once"),
        CheckConstraint(
            "outcome <> 'review' OR (job_id IS NOT NULL AND due_at IS NOT NULL AND at_deadline IS NOT NULL)",
            name="review_of_job",
        ),
        Index(
            "uq_moderation_outcomes_day",
            *("account_id", "day", "checker", "rule", "version", "stage", "outcome", "test", "interface"),
            unique=True,
            postgresql_where=text("job_id IS NULL"),
        ),
        Index("ix_moderation_outcomes_account", "account_id", "last_at"),
        Index("ix_moderation_outcomes_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        Index("uq_moderation_outcomes_open", "job_id", unique=True, postgresql_where=text(IS_OPEN)),
        Index("ix_moderation_outcomes_waiting", "first_at", "id", postgresql_where=text(IS_OPEN)),
        Index("ix_moderation_outcomes_due", "due_at", postgresql_where=text(IS_OPEN)),
        Index("ix_moderation_outcomes_decided", "decided_at", "id", postgresql_where=text("decision IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    job_id: Mapped[str | None] = mapped_column(Text)
    test: Mapped[bool] = mapped_column()
    interface: Mapped[str] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    score: Mapped[float] = mapped_column(Double)
    checker: Mapped[str] = mapped_column(Text)
    rule: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    day: Mapped[date] = mapped_column(Date)  # UTC
    times: Mapped[int] = mapped_column(Integer, default=1)
    first_at: Mapped[datetime] = mapped_column(Moment)
    last_at: Mapped[datetime] = mapped_column(Moment)
    # Of a review: by when it is decided, and as what if nobody has done so by then, both fixed when it began.
    due_at: Mapped[datetime | None] = mapped_column(Moment)
    at_deadline: Mapped[str | None] = mapped_column(Text)
    decision: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(Moment)
    decided_by: Mapped[str | None] = mapped_column(Text)  # the person; "policy" at the deadline; NULL: withdrawn
    reason: Mapped[str | None] = mapped_column(Text)
