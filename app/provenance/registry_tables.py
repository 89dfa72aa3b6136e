"""The registry of films: what is known of each delivered film for as long as the law asks for it."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class RegistryFilm(Base):
    """A delivered film. The row is written with the film's receipt, and stays when the film is deleted.

    `settle_write.sql` of app.jobs writes it. It refers to no other row, so that it can outlive them: `account_id` is
    the only value that leads to a person, and is removed when the account is erased.
    """

    __tablename__ = "registry_films"
    __table_args__ = (
        Index("ix_registry_films_sha256", "sha256"),
        Index("ix_registry_films_mark_id", "mark_id", postgresql_where=text("mark_id IS NOT NULL")),
        Index("ix_registry_films_account_id", "account_id"),
        Index("ix_registry_films_hash_parts", "hash_parts", postgresql_using="gin"),
        # For those that have no marks in their files yet (app.jobs.backfill).
        Index("ix_registry_films_made_before", "film_id", postgresql_where=text("model_version = ''")),
    )

    film_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str | None]
    test: Mapped[bool]
    # Of the file, in hex. Where it got its marks later, film_successors has the hash of the first one too.
    sha256: Mapped[str]
    # What the watermark of its frames carries; None for a film without a watermark.
    mark_id: Mapped[int | None] = mapped_column(BigInteger)
    # PDQ hashes of some frames, 32 bytes each, and the parts of them by which films with similar frames are found.
    frame_hashes: Mapped[bytes] = mapped_column(LargeBinary)
    hash_parts: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    model: Mapped[str]
    # Empty for films that were made before there was a registry.
    model_version: Mapped[str]
    # The films of whose shots it is made too.
    reused_films: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # What the order said of its marks: its visible label and its declarations, where they are not the default.
    policy: Mapped[dict[str, Any]] = mapped_column(JSONB)
    made_at: Mapped[datetime] = mapped_column(Moment)
