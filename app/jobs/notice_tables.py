"""Which accounts were told that a model retires."""

from datetime import datetime

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class RetirementNotice(Base):
    """The one event `model.retiring` of an account's side (test or live) about a model and the date of its end."""

    __tablename__ = "retirement_notices"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    test: Mapped[bool] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    retires_at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    noticed_at: Mapped[datetime] = mapped_column(Moment)
