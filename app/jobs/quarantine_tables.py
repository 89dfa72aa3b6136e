"""The table of films that the check of their pictures has refused, while moderators can still see them."""

from datetime import datetime

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class QuarantinedFilm(Base):
    """A refused film: its files lie under keys of their own, which nothing that customers reach refers to."""

    __tablename__ = "quarantined_films"
    __table_args__ = (
        Index("ix_quarantined_films_newest", "quarantined_at", "job_id"),
        Index("ix_quarantined_films_due", "expires_at", postgresql_where=text("removed_at IS NULL")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text)
    score: Mapped[float] = mapped_column(Double)
    checker: Mapped[str] = mapped_column(Text)
    quarantined_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    removed_at: Mapped[datetime | None] = mapped_column(Moment)
