"""Rows of the pages: who is signed in where."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class WebSession(Base):
    """One browser in which a member is signed in. Its token is in the browser's cookie; here is only its hash."""

    __tablename__ = "web_sessions"
    __table_args__ = (Index("ix_web_sessions_member", "member_id"),)

    id: Mapped[str] = mapped_column(Text, primary_key=True)  # SHA-256 of the token, in hex
    member_id: Mapped[str] = mapped_column(ForeignKey("members.id"))
    test: Mapped[bool] = mapped_column(default=False)  # shows and orders test jobs: free colour bars
    created_at: Mapped[datetime] = mapped_column(Moment)
    seen_at: Mapped[datetime] = mapped_column(Moment)
    proved_at: Mapped[datetime] = mapped_column(Moment)  # when the password was last given
    expires_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
