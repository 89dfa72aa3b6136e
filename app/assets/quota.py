"""How many bytes an account's uploaded files have, and the limit that its membership sets."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.assets.tables import Asset, AssetState
from app.errors import AppError


def stored_bytes(session: Session, account_id: str) -> int:
    """Return the bytes of an account's files, with those that its unfinished uploads have announced."""
    states = (AssetState.PENDING, AssetState.READY)
    query = select(func.coalesce(func.sum(Asset.bytes), 0))
    return int(session.scalar(query.where(Asset.account_id == account_id, Asset.state.in_(states))) or 0)


def check_quota(session: Session, account_id: str, more: int, *, quota_bytes: int | None) -> None:
    """Check that an account may store `more` bytes than it does; a quota of None is none.

    Files that are received at the same moment are not counted yet, so a few may exceed it together. Raises AppError
    `storage_full`.
    """
    if quota_bytes is None:
        return
    used = stored_bytes(session, account_id)
    if used + more > quota_bytes:
        message = (
            f"The account's uploaded files have {used:,} bytes, and its membership allows {quota_bytes:,}. "
            "Delete some, or wait until they expire."
        )
        raise AppError("storage_full", message, value=used + more, allowed=quota_bytes)
