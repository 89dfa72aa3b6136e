"""Rows of takedowns: a report, the person who sent it, and the films that were removed."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class ReportState(StrEnum):
    """What has become of a report."""

    OPEN = "open"
    REMOVED = "removed"
    KEPT = "kept"


class ContentReport(Base):
    """A report of a film. It stays as the log of takedowns, so it names no person but the operator who decided."""

    __tablename__ = "content_reports"
    __table_args__ = (
        CheckConstraint("(state = 'open') = (decided_at IS NULL)", name="decided_once"),
        Index("ix_content_reports_open", "due_at", postgresql_where=text("state = 'open'")),
        Index("ix_content_reports_created", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    category: Mapped[str] = mapped_column(Text)
    film_id: Mapped[str | None] = mapped_column(Text)  # NULL: what was reported leads to no film of this service
    created_at: Mapped[datetime] = mapped_column(Moment)
    due_at: Mapped[datetime] = mapped_column(Moment)
    state: Mapped[str] = mapped_column(Text, default=ReportState.OPEN)
    removed_films: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    decided_at: Mapped[datetime | None] = mapped_column(Moment)
    decided_by: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text, default="")


class ReportSender(Base):
    """The personal part of a report: who sent it and in which words. It can be deleted while the report stays."""

    __tablename__ = "report_senders"

    report_id: Mapped[str] = mapped_column(ForeignKey("content_reports.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
    place: Mapped[str] = mapped_column(Text)  # where the sender saw the film, as typed
    details: Mapped[str] = mapped_column(Text)
