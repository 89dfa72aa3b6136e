"""Delete assets: by their owner, after their expiry, and files without a row."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.assets.find import get_asset
from app.assets.owner import AssetOwner
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.storage import Stat, get_storage

# The folders of assets, and of uploads that are not confirmed yet, in storage.
FOLDERS = ("assets/", "uploads/")
# A file without a row may belong to a transaction that is still open; after a day it cannot.
_ORPHAN_AGE = timedelta(days=1)


def delete_asset(session: Session, owner: AssetOwner, asset_id: str) -> None:
    """Delete the owner's asset and its file. A job that still needs it will fail, and cost nothing.

    Raises AppError `not_found`.
    """
    _remove(get_asset(session, owner, asset_id, lock=True))
    session.flush()


def remove_expired(session: Session, *, awaited: ColumnElement[bool], limit: int = 100) -> int:
    """Delete expired assets, at most `limit`, and return how many. Deleting twice is harmless.

    `awaited` is the condition that an unfinished job still needs the asset, which then stays until the job has ended.
    """
    expired = (
        select(Asset)
        .where(Asset.state != AssetState.DELETED, Asset.expires_at <= now(session), ~awaited)
        .order_by(Asset.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    assets = session.scalars(expired).all()
    for asset in assets:
        _remove(asset)
    session.flush()
    return len(assets)


def unreferenced_files(session: Session, stats: Iterable[Stat]) -> list[str]:
    """Return the keys among these files, all in FOLDERS, that are older than a day and that no row references."""
    before = now(session) - _ORPHAN_AGE
    old = [stat.key for stat in stats if stat.modified_at < before]
    known = set(session.scalars(select(Asset.key).where(Asset.key.in_(old))))
    return [key for key in old if key not in known]


def _remove(asset: Asset) -> None:
    if asset.key is not None:
        get_storage().delete(asset.key)
    asset.state, asset.refused_reason, asset.key = AssetState.DELETED, None, None
