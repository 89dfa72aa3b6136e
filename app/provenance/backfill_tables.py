"""Films that got their marks after they were delivered: what each file became, and how far the backfill is."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Index, Integer, Text, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Moment, append_only, one_of
from app.provenance.registry_tables import RegistryFilm

# Which marks a successor has. 1: the AIGC label and the C2PA manifest, none in the pixels.
MARKS_VERSION = 1


class FilmSuccessor(Base):
    """The file that took the place of a delivered film: the same frames, with marks. A film has at most one.

    The receipt names the first file for ever; a receipt replays with `old_key` and `old_film`. As the registry's row,
    this one refers to no other and outlives the film: who has the first file can still learn what it is.
    """

    __tablename__ = "film_successors"
    __table_args__ = (
        Index("uq_film_successors_old_key", "old_key", unique=True),
        Index("ix_film_successors_old_sha256", "old_sha256"),
        Index("ix_film_successors_new_sha256", "new_sha256"),
        Index("ix_film_successors_marked_at", "marked_at"),
    )

    film_id: Mapped[str] = mapped_column(Text, primary_key=True)
    old_key: Mapped[str] = mapped_column(Text)
    old_film: Mapped[dict[str, Any]] = mapped_column(JSONB)  # the measurements that were charged
    old_sha256: Mapped[str] = mapped_column(Text)
    new_key: Mapped[str] = mapped_column(Text)
    new_sha256: Mapped[str] = mapped_column(Text)
    new_bytes: Mapped[int] = mapped_column(BigInteger)
    marks_version: Mapped[int] = mapped_column(Integer)
    marked_at: Mapped[datetime] = mapped_column(Moment)


append_only(Base.metadata.tables["film_successors"], "a receipt replays by what its film was before")


class BackfillState(StrEnum):
    """How far the backfill is with a film; `kept`: its file had both marks already."""

    RUNNING = "running"
    MARKED = "marked"
    KEPT = "kept"
    SKIPPED = "skipped"


class BackfillClaim(Base):
    """The lease of a backfill on one film, and later how it ended. `reason` says why a film was skipped."""

    __tablename__ = "backfill_claims"
    __table_args__ = (one_of("state", BackfillState),)

    film_id: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    new_key: Mapped[str] = mapped_column(Text)  # where this lease stores the film; another lease has another key
    lease_until: Mapped[datetime] = mapped_column(Moment)
    reason: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime] = mapped_column(Moment)


class RegisteredMarks(NamedTuple):
    """Which marks a film's file has: metadata with a manifest, and a watermark in its frames."""

    metadata: bool
    watermark: bool


def registered_marks(session: Session, film_id: str) -> RegisteredMarks:
    """Return which marks a film's file has, by the registry. Older films have none until a backfill has marked them."""
    film, claim = session.get(RegistryFilm, film_id), session.get(BackfillClaim, film_id)
    if film is None:
        return RegisteredMarks(metadata=False, watermark=False)
    is_filled = claim is not None and claim.state in (BackfillState.MARKED, BackfillState.KEPT)
    return RegisteredMarks(metadata=is_filled or film.model_version != "", watermark=film.mark_id is not None)


def file_hashes(session: Session, film_id: str) -> list[str]:
    """Return the SHA-256 of a film's file, and before it that of the file which it replaced; none for no film."""
    successor = select(FilmSuccessor.old_sha256).where(FilmSuccessor.film_id == film_id)
    own = select(RegistryFilm.sha256).where(RegistryFilm.film_id == film_id)
    return [*session.scalars(successor), *session.scalars(own)]
