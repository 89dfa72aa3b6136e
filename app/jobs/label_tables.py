"""What people add to a film: a name, a star, and whether the start page may show it."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class FilmLabel(Base):
    """The labels of one film. They are no part of its order: a job's row is not changed by them."""

    __tablename__ = "film_labels"
    __table_args__ = (
        Index("ix_film_labels_favourites", "account_id", "job_id", postgresql_where=text("is_favourite")),
        Index("ix_film_labels_showcase", "agreed_at", postgresql_where=text("agreed_at IS NOT NULL")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text, default="", server_default="")
    is_favourite: Mapped[bool] = mapped_column(default=False, server_default=false())
    # The start page shows a film that its owner agreed to and that an operator chose.
    agreed_at: Mapped[datetime | None] = mapped_column(Moment)
    shown_at: Mapped[datetime | None] = mapped_column(Moment)
    shown_by: Mapped[str | None] = mapped_column(Text)
