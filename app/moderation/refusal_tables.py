"""Tables of those who repeat refused orders: how many they had in a day, and whose orders are stopped."""

from datetime import date, datetime

from sqlalchemy import Date, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class RefusalCount(Base):
    """How many orders of an account were refused on a day (UTC), by the project of the key and by test and live."""

    __tablename__ = "refusal_counts"
    __table_args__ = (Index("ix_refusal_counts_day", "day"),)

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)  # as OrderStop.scope
    test: Mapped[bool] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    refusals: Mapped[int] = mapped_column(Integer)


class OrderStop(Base):
    """That orders are stopped, until an operator allows them: of one project's keys, of all others, or of all."""

    __tablename__ = "order_stops"
    __table_args__ = (
        Index(
            "uq_order_stops_open",
            *("account_id", "scope", "test"),
            unique=True,
            postgresql_where=text("allowed_at IS NULL"),
        ),
        Index("ix_order_stops_newest", "stopped_at", postgresql_where=text("allowed_at IS NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    # The project of the key; empty: keys of no project, and pages; `*`: the account.
    scope: Mapped[str] = mapped_column(Text)
    test: Mapped[bool] = mapped_column()
    refusals: Mapped[int] = mapped_column(Integer)
    stopped_at: Mapped[datetime] = mapped_column(Moment)
    allowed_at: Mapped[datetime | None] = mapped_column(Moment)
    allowed_by: Mapped[str | None] = mapped_column(Text)
