"""The table of jobs that were ordered together."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class Group(Base):
    """Jobs that one call ordered together. `unfinished` counts those that have not ended; at 0 the group has ended."""

    __tablename__ = "job_groups"
    __table_args__ = (
        CheckConstraint("unfinished BETWEEN 0 AND size", name="unfinished_within_size"),
        CheckConstraint("(unfinished = 0) = (finished_at IS NOT NULL)", name="finished_has_moment"),
        Index("ix_job_groups_finished", "finished_at"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    test: Mapped[bool] = mapped_column(default=False)
    size: Mapped[int] = mapped_column(SmallInteger)
    unfinished: Mapped[int] = mapped_column(SmallInteger)
    callback_url: Mapped[str | None] = mapped_column(Text)  # called once, when all have ended
    created_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    traceparent: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
