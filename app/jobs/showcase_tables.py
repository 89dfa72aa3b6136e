"""Films that their owners let everybody see, and those that operators show on the landing page."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class ShowcaseAgreement(Base):
    """An owner's agreement that one film may be shown to everybody, until it is revoked.

    The row is kept: it records who agreed and who revoked, and when. While it is open, an operator may choose the film
    for the landing page.
    """

    __tablename__ = "showcase_agreements"
    __table_args__ = (
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
        CheckConstraint("(chosen_at IS NULL) = (chosen_by IS NULL)", name="chosen_by_somebody"),
        Index("uq_showcase_agreements_open", "job_id", unique=True, postgresql_where=text("revoked_at IS NULL")),
        Index("ix_showcase_agreements_agreed", "agreed_at", postgresql_where=text("revoked_at IS NULL")),
        Index(
            "ix_showcase_agreements_chosen",
            "chosen_at",
            postgresql_where=text("revoked_at IS NULL AND chosen_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    agreed_by: Mapped[str] = mapped_column(Text)
    agreed_at: Mapped[datetime] = mapped_column(Moment)
    revoked_by: Mapped[str | None] = mapped_column(Text)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    chosen_by: Mapped[str | None] = mapped_column(Text)
    chosen_at: Mapped[datetime | None] = mapped_column(Moment)
