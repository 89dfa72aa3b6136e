"""Tables of audits: months whose receipts were audited and sealed, and the sums over them."""

from datetime import datetime

from sqlalchemy import BigInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, append_only


class SealedMonth(Base):
    """A closed month whose receipts an audit agreed with: what their rows said then, as one hash.

    The digest covers the one of the month before, so nothing in the past can be rewritten without all that followed.
    """

    __tablename__ = "sealed_months"

    month: Mapped[str] = mapped_column(Text, primary_key=True)  # such as `2026-05`, in UTC
    receipts: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(Text)  # SHA-256 in hexadecimal digits
    sums_digest: Mapped[str] = mapped_column(Text)  # the same, over all of sealed_sums after this month
    sealed_at: Mapped[datetime] = mapped_column(Moment)


class SealedSum(Base):
    """What the rows of all sealed months come to for one subject, such as what was posted to a wallet.

    `kind` names the sum (`app.audit_sums.AuditSum`), `subject` whose it is. Amounts are minor units, or flicks of free
    seconds. An audit adds the later rows to it, so that it need not read the past.
    """

    __tablename__ = "sealed_sums"

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger)


append_only(
    Base.metadata.tables["sealed_months"],
    "a sealed month is never changed or removed; `cinemeter audit --all` reads its receipts again",
)
