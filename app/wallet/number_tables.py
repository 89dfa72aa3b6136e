"""Table of the numbers of receipts (decision 0173)."""

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, append_only


class ReceiptNumber(Base):
    """The number of a job's receipt in its account: without a gap, live and test jobs apart.

    Receipts that were settled before there were such numbers have none: they keep the number of their own row.
    """

    __tablename__ = "receipt_numbers"
    __table_args__ = (UniqueConstraint("account_id", "test", "number"),)

    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("wallets.account_id"))
    test: Mapped[bool]
    number: Mapped[int] = mapped_column(BigInteger)


append_only(Base.metadata.tables["receipt_numbers"], "the number of a receipt is never changed or removed")
