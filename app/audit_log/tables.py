"""The row of the audit log."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, append_only


class AuditEntry(Base):
    """One action of an operator. Entries are chained by hash, so that a removed or changed one is noticed."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_subject", "subject"),
        # For the filters of the console: by person, by action and by time, the newest first.
        Index("ix_audit_entries_actor", "actor", "number"),
        Index("ix_audit_entries_act", "act", "number"),
        Index("ix_audit_entries_at", "at"),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    actor: Mapped[str] = mapped_column(Text)  # the person
    via: Mapped[str] = mapped_column(Text, default="")  # the key that the person used, or `session`
    act: Mapped[str] = mapped_column(Text)  # such as `book.approved`
    subject: Mapped[str] = mapped_column(Text)  # id that the action is about
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    previous_hash: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(Text, unique=True)


append_only(Base.metadata.tables["audit_entries"], "the audit trail is only ever added to", erasable="facts")


class AuditValue(Base):
    """A fact of an entry that can name a person. The entry has its salted hash; this row can be deleted alone."""

    __tablename__ = "audit_values"

    number: Mapped[int] = mapped_column(ForeignKey("audit_entries.number"), primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    salt: Mapped[str] = mapped_column(Text)  # 128 random bits in hex
    value: Mapped[Any] = mapped_column(JSONB)
