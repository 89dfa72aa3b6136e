"""Delete assets: by their owner, after their expiry, and files without a row."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from app.assets.find import get_asset
from app.assets.owner import AssetOwner
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.db import transaction
from app.storage import Stat, get_storage

log = logging.getLogger(__name__)

# The folders of assets, and of uploads that are not confirmed yet, in storage.
FOLDERS = ("assets/", "uploads/")
# A file without a row may belong to a transaction that is still open; after a day it cannot.
_ORPHAN_AGE = timedelta(days=1)
# How long a file is left alone that could not be removed.
RETRY_AFTER = timedelta(minutes=10)


def delete_asset(session: Session, owner: AssetOwner, asset_id: str) -> None:
    """Delete the owner's asset. A job that still needs it will fail, and cost nothing.

    Retention removes its file a moment later: no request waits for the store. Raises AppError `not_found`.
    """
    _mark_deleted(get_asset(session, owner, asset_id, lock=True), now(session))
    session.flush()


def delete_copies(session: Session, sha256: str) -> None:
    """Delete the assets of every account that are a file, by its SHA-256 in hex: as it was sent, or as it is stored."""
    copies = select(Asset).where(
        Asset.state == AssetState.READY, or_(Asset.source_sha256 == sha256, Asset.sha256 == sha256)
    )
    for asset in session.scalars(copies.order_by(Asset.id).with_for_update()):
        _mark_deleted(asset, now(session))
    session.flush()


def delete_expired(session: Session, *, awaited: ColumnElement[bool], limit: int = 100) -> list[str]:
    """Delete expired assets, at most `limit`, and return their ids; `remove_files` removes the files.

    `awaited` is the condition that an unfinished job still needs the asset, which then stays until the job has ended.
    """
    moment = now(session)
    expired = (
        select(Asset)
        .where(Asset.state != AssetState.DELETED, Asset.expires_at <= moment, ~awaited)
        .order_by(Asset.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    assets = session.scalars(expired).all()
    for asset in assets:
        _mark_deleted(asset, moment)
    session.flush()
    return [asset.id for asset in assets]


def remove_files(*, limit: int = 100) -> list[str]:
    """Remove the files of deleted assets, at most `limit`, and return the ids. Removing twice is harmless.

    No session waits for the store. A file that cannot be removed is left alone for a while, and the others go on.
    """
    with transaction() as session:
        deleted = select(Asset.id, Asset.key).where(
            Asset.state == AssetState.DELETED, Asset.key.is_not(None), Asset.expires_at <= now(session)
        )
        due = session.execute(deleted.order_by(Asset.expires_at).limit(limit)).all()
    return [asset_id for asset_id, key in due if key is not None and _remove_file(asset_id, key)]


def _remove_file(asset_id: str, key: str) -> bool:
    """Remove one file, then its key from the row; return whether the store did it."""
    changes: dict[str, Any] = {"key": None}
    try:
        get_storage().delete(key)
    except Exception:
        log.exception("The file of %s could not be removed", asset_id)
        changes = {}
    with transaction() as session:
        if not changes:
            # The moment from which its file may be removed: a deleted asset has no other use for this column.
            changes = {"expires_at": now(session) + RETRY_AFTER}
        session.execute(update(Asset).where(Asset.id == asset_id, Asset.key == key).values(changes))
    return "key" in changes


def unreferenced_files(session: Session, stats: Iterable[Stat]) -> list[str]:
    """Return the keys among these files, all in FOLDERS, that are older than a day and that no row references."""
    before = now(session) - _ORPHAN_AGE
    old = [stat.key for stat in stats if stat.modified_at < before]
    known = set(session.scalars(select(Asset.key).where(Asset.key.in_(old))))
    return [key for key in old if key not in known]


def _mark_deleted(asset: Asset, moment: datetime) -> None:
    """Delete an asset; its key stays until its file is removed, from `moment` on."""
    asset.state, asset.refused_reason, asset.expires_at = AssetState.DELETED, None, moment
