"""What people add to a film: a name and a star."""

from sqlalchemy import ForeignKey, Index, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class FilmLabel(Base):
    """The labels of one film. They are no part of its order: a job's row is not changed by them."""

    __tablename__ = "film_labels"
    __table_args__ = (
        Index("ix_film_labels_account", "account_id"),
        Index("ix_film_labels_favourites", "account_id", "job_id", postgresql_where=text("is_favourite")),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text, default="", server_default="")
    is_favourite: Mapped[bool] = mapped_column(default=False, server_default=false())
