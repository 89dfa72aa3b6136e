"""The table of what moderation has decided."""

from datetime import date, datetime

from sqlalchemy import Date, Double, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of
from app.moderation.outcomes import CheckStage, Outcome


class ModerationOutcome(Base):
    """What a checker decided against, or could not check. What was matched is not kept.

    Refusals before an order have no job: equal ones of one account and day are one row with their number, so that
    nobody fills the table. What was allowed has no row here; each job names what it was checked by.
    """

    __tablename__ = "moderation_outcomes"
    __table_args__ = (
        one_of("stage", CheckStage),
        one_of("outcome", Outcome),
        Index(
            "uq_moderation_outcomes_day",
            *("account_id", "day", "checker", "rule", "version", "stage", "outcome", "test", "interface"),
            unique=True,
            postgresql_where=text("job_id IS NULL"),
        ),
        Index("ix_moderation_outcomes_account", "account_id", "last_at"),
        Index("ix_moderation_outcomes_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
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
