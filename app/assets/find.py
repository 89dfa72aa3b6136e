"""Find an asset: one of the caller's own, one that a job can use, or its storage key."""

from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.assets.owner import AssetOwner, owned
from app.assets.sniff import Kind
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.errors import AppError, not_found


def get_asset(session: Session, owner: AssetOwner, asset_id: str, *, lock: bool = False) -> Asset:
    """Return the owner's asset, with `lock` as it is now. Raises AppError `not_found` for a deleted or foreign one."""
    query = select(Asset).where(Asset.id == asset_id, *owned(owner))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    asset = session.scalars(query).one_or_none()
    if asset is None:
        raise not_found("asset", asset_id)
    return asset


def find_by_hash(
    session: Session, owner: AssetOwner, source_sha256: str, *, kind: Kind | None = None, lock: bool = False
) -> Asset:
    """Return the owner's ready asset whose file came with this SHA-256, in hex; of several the one that stays longest.

    Raises AppError `not_found` for an unknown file and for another account's, which the same index lookup does not see.
    """
    query = select(Asset).where(
        Asset.source_sha256 == source_sha256,
        Asset.state == AssetState.READY,
        Asset.expires_at > now(session),
        *owned(owner),
    )
    if kind is not None:
        query = query.where(Asset.kind == kind)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    asset = session.scalars(query.order_by(Asset.expires_at.desc(), Asset.id).limit(1)).one_or_none()
    if asset is None:
        raise not_found("asset", source_sha256)
    return asset


def list_assets(
    session: Session, owner: AssetOwner, *, limit: int = 20, after: tuple[datetime, str] | None = None
) -> list[Asset]:
    """Return the owner's assets, newest first; `after` is (created_at, id) of the last one of the previous page."""
    query = select(Asset).where(*owned(owner))
    if after is not None:
        query = query.where(tuple_(Asset.created_at, Asset.id) < after)
    return list(session.scalars(query.order_by(Asset.created_at.desc(), Asset.id.desc()).limit(limit)))


def ready_asset(session: Session, owner: AssetOwner, asset_id: str, *, kind: Kind, field: str) -> Asset:
    """Return the owner's asset for use as `field` of a request.

    Raises AppError `not_found` (with the field), `conflict` while its file is missing, `asset_refused` when the file
    was refused, and `invalid_request` when it is of another kind.
    """
    try:
        asset = get_asset(session, owner, asset_id)
    except AppError as error:
        raise AppError(error.code, error.message, field=field, **error.facts) from None
    if asset.state == AssetState.REFUSED:
        message = f"The file of this asset was refused: {asset.refused_reason}"
        raise AppError("asset_refused", message, field=field, id=asset_id)
    if asset.state != AssetState.READY:
        message = "The file of this asset is missing; upload it and confirm."
        raise AppError("conflict", message, field=field, id=asset_id, state=asset.state)
    if asset.kind != kind:
        message = f"{field} must be a {kind}; this asset is a {asset.kind}."
        raise AppError("invalid_request", message, field=field, id=asset_id, value=asset.kind, allowed=[kind])
    return asset


def asset_key(session: Session, asset_id: str) -> str:
    """Return the storage key of a ready asset, for a worker that renders with it.

    Raises AppError `gone` when its owner deleted it, or its retention ended, after the job was accepted.
    """
    asset = session.get(Asset, asset_id)
    if asset is None or asset.key is None or asset.state != AssetState.READY:
        raise AppError("gone", f"The asset {asset_id} was deleted before it was used.", id=asset_id)
    return asset.key


def account_of(session: Session, asset_id: str) -> str:
    """Return the account that an asset belongs to. Raises AppError `not_found`."""
    account_id = session.scalar(select(Asset.account_id).where(Asset.id == asset_id, Asset.state != AssetState.DELETED))
    if account_id is None:
        raise not_found("asset", asset_id)
    return account_id
