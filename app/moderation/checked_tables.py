"""The table of files that checkers have seen, so that none is checked twice."""

from datetime import datetime

from sqlalchemy import Double, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of
from app.moderation.outcomes import Outcome


class CheckedFile(Base):
    """What one checker, as it is configured (`checked_by`), said of a file. Of the file only its hash is here."""

    __tablename__ = "moderation_checked_files"
    __table_args__ = (
        one_of("outcome", Outcome),
        Index("ix_moderation_checked_files_age", "checked_at"),
    )

    sha256: Mapped[str] = mapped_column(Text, primary_key=True)
    checked_by: Mapped[str] = mapped_column(Text, primary_key=True)  # PictureChecker.fingerprint
    outcome: Mapped[str] = mapped_column(Text)
    # Of what was allowed, empty and 0.
    category: Mapped[str] = mapped_column(Text)
    score: Mapped[float] = mapped_column(Double)
    rule: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    checker: Mapped[str] = mapped_column(Text)
    checked_at: Mapped[datetime] = mapped_column(Moment)
