"""The row of an erasure."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of


class ErasureKind(StrEnum):
    """Whose values are erased: an account with its members, one member, or the sender of a report."""

    ACCOUNT = "account"
    MEMBER = "member"
    REPORT = "report"


class Erasure(Base):
    """An erasure, and how far it has come. It names nobody but by ids, and stays: after a restore it is done again."""

    __tablename__ = "erasures"
    __table_args__ = (
        one_of("kind", ErasureKind),
        Index("uq_erasures_open", "kind", "subject_id", unique=True, postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[str] = mapped_column(Text)
    started_by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(Moment)
    steps: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # step that is done -> rows that it went over
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
