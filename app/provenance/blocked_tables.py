"""Files that were removed after a report, and may not come back as uploads."""

from datetime import datetime

from sqlalchemy import Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Moment

# Why such a file is refused, for the sentence of the refusal.
BLOCKED_REASON = "it was removed from this service after a report"


class BlockedFile(Base):
    """The SHA-256, in hex, of a file that must not be uploaded again."""

    __tablename__ = "blocked_files"

    sha256: Mapped[str] = mapped_column(Text, primary_key=True)
    film_id: Mapped[str] = mapped_column(Text)
    report_id: Mapped[str] = mapped_column(Text)
    blocked_at: Mapped[datetime] = mapped_column(Moment)


def is_blocked(session: Session, *hashes: str | None) -> bool:
    """Return whether a file with one of these SHA-256, in hex, was removed after a report. None is not known."""
    known = [each for each in hashes if each]
    query = select(BlockedFile.film_id).where(BlockedFile.sha256.in_(known)).limit(1)
    return bool(known) and session.scalar(query) is not None
