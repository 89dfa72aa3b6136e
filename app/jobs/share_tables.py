"""The table of share links: pages of films that everybody who has the link may see."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class ShareLink(Base):
    """A public page of one film, until it expires or is revoked. The link itself is signed, and is not stored."""

    __tablename__ = "share_links"
    __table_args__ = (
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
        Index("ix_share_links_job", "job_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_by: Mapped[str | None] = mapped_column(Text)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
