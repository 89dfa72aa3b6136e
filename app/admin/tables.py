"""Rows of operators' work: top-ups that wait for a second operator."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, one_of


class TopUpRequestState(StrEnum):
    """The state of a top-up above the ceiling."""

    OPEN = "open"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"


class TopUpRequest(Base):
    """A top-up above the ceiling: requested by one operator, approved by a second one, or withdrawn."""

    __tablename__ = "top_up_requests"
    __table_args__ = (
        one_of("state", TopUpRequestState),
        CheckConstraint("(state = 'open') = (decided_at IS NULL)", name="decided_has_time"),
        UniqueConstraint("account_id", "kind", "reference"),
        Index("ix_top_up_requests_open", "account_id", "requested_at", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int] = mapped_column(BigInteger)  # minor units of the account's currency
    kind: Mapped[str] = mapped_column(Text)  # purchased or granted
    reference: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)  # of the credit
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=TopUpRequestState.OPEN)
    requested_by: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[datetime] = mapped_column(Moment)
    decided_by: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(Moment)
