"""The table of assets."""

from datetime import datetime
from enum import StrEnum
from typing import Any, get_args

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.assets.sniff import Kind
from app.db import Base, Moment, one_of


class AssetState(StrEnum):
    """The state of an asset: pending (no file yet), ready (can be used), refused (file not usable), deleted."""

    PENDING = "pending"
    READY = "ready"
    REFUSED = "refused"
    DELETED = "deleted"


class Asset(Base):
    """A picture, clip or sound of a customer. The file of a ready asset is always re-encoded by us.

    The facts (size, frames, fps, seconds, sha256) are those of the re-encoded file under `key`. `fps` and `seconds` are
    exact fractions as text (`24`, `30000/1001`).
    """

    __tablename__ = "assets"
    __table_args__ = (
        one_of("kind", get_args(Kind)),
        one_of("state", AssetState),
        CheckConstraint("state <> 'ready' OR (key IS NOT NULL AND kind IS NOT NULL)", name="ready_has_a_file"),
        CheckConstraint("(state = 'refused') = (refused_reason IS NOT NULL)", name="refused_for_a_reason"),
        Index("ix_assets_account", "account_id", "created_at", "id", postgresql_where=text("state <> 'deleted'")),
        Index(
            "ix_assets_files_to_remove",
            "expires_at",
            postgresql_where=text("state = 'deleted' AND key IS NOT NULL"),
        ),
        Index("ix_assets_source", "account_id", "source_sha256", postgresql_where=text("state = 'ready'")),
        # For uploads of a film that is removed.
        Index("ix_assets_file", "sha256", postgresql_where=text("state = 'ready'")),
        Index("ix_assets_source_file", "source_sha256", postgresql_where=text("state = 'ready'")),
        Index("ix_assets_expiry", "expires_at", postgresql_where=text("state <> 'deleted'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id"))
    test: Mapped[bool] = mapped_column(default=False)
    kind: Mapped[Kind | None] = mapped_column(Text)  # may be NULL while pending: the file decides
    state: Mapped[str] = mapped_column(Text)
    refused_reason: Mapped[str | None] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text, default="")  # as the customer named it; only shown to them
    key: Mapped[str | None] = mapped_column(Text)  # in storage; of the raw upload while pending
    content_type: Mapped[str | None] = mapped_column(Text)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    frames: Mapped[int | None] = mapped_column(Integer)
    fps: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[str | None] = mapped_column(Text)
    has_audio: Mapped[bool] = mapped_column(default=False)
    sha256: Mapped[str | None] = mapped_column(Text)
    # The marks that the file carried when it came in (app.provenance.read_marks): the re-encoded one has lost them.
    marks: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # What the customer declared of it (Declaration of app.assets.schemas); None: nothing.
    declaration: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    source_sha256: Mapped[str | None] = mapped_column(Text)  # of the file as it came, by which it is found again
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
