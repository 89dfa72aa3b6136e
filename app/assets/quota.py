"""How many bytes an account's uploaded files have, and the limit that its membership sets."""

from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.assets.tables import Asset, AssetState
from app.errors import AppError


def stored_bytes(session: Session, account_id: str) -> int:
    """Return the bytes of an account's files, with those that its unfinished uploads have announced."""
    states = (AssetState.PENDING, AssetState.READY)
    query = select(func.coalesce(func.sum(Asset.bytes), 0))
    return int(session.scalar(query.where(Asset.account_id == account_id, Asset.state.in_(states))) or 0)


@dataclass(frozen=True)
class StorageRoom:
    """What an account's files have (bytes), and what they may have together; None is no limit."""

    used: int
    quota: int | None

    def check(self, more: int) -> None:
        """Check that `more` bytes fit. Raises AppError `storage_full`."""
        if self.quota is not None and self.used + more > self.quota:
            message = (
                f"The account's uploaded files have {self.used:,} bytes, and its membership allows {self.quota:,}. "
                "Delete some, or wait until they expire."
            )
            raise AppError("storage_full", message, value=self.used + more, allowed=self.quota)

    def less(self, size: int) -> "StorageRoom":
        """Return the room that is left beside a further file of `size` bytes."""
        return replace(self, used=self.used + size)


NO_LIMIT = StorageRoom(0, None)


def storage_room(session: Session, account_id: str, *, quota_bytes: int | None) -> StorageRoom:
    """Return what an account may store now; a quota of None is no limit.

    Files that are received at the same moment are not counted yet, so a few may exceed it together.
    """
    return NO_LIMIT if quota_bytes is None else StorageRoom(stored_bytes(session, account_id), quota_bytes)


def check_quota(session: Session, account_id: str, more: int, *, quota_bytes: int | None) -> None:
    """Check that an account may store `more` bytes than it does. Raises AppError `storage_full`."""
    storage_room(session, account_id, quota_bytes=quota_bytes).check(more)
