"""Uploads in two steps: begin (the client learns where to put its file), then confirm (the file is read and kept)."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.assets.find import get_asset
from app.assets.ingest import bytes_max, new_asset, store_asset, write_capped
from app.assets.limits import KEEP_DAYS, PENDING_HOURS, PENDING_MAX, RefusedError, ingest_slot
from app.assets.links import UploadLink, make_upload_link
from app.assets.owner import AssetOwner
from app.assets.sandbox_probe import probe_file
from app.assets.sniff import Kind
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.errors import AppError, not_found
from app.storage import Upload, get_storage

# How long an address for an upload is good.
UPLOAD_SECONDS = 900


def begin_upload(
    session: Session, owner: AssetOwner, *, kind: Kind | None, filename: str, content_type: str, size: int
) -> tuple[Asset, Upload]:
    """Return a pending asset and where the client puts its file of exactly `size` bytes within UPLOAD_SECONDS.

    Where the store takes no files from clients, the address is one of ours, and its door calls `receive`. Either way
    the client needs no key. Raises AppError `asset_refused` for a size beyond the limit and `conflict` when too many
    uploads wait already.
    """
    if size > bytes_max(kind):
        message = f"The file was refused: it has {size:,} bytes; {bytes_max(kind):,} are allowed."
        raise AppError("asset_refused", message, field="bytes", value=size, allowed=bytes_max(kind))
    pending = select(func.count()).where(Asset.account_id == owner.account_id, Asset.state == AssetState.PENDING)
    if session.scalars(pending).one() >= PENDING_MAX:
        raise AppError("conflict", f"{PENDING_MAX} uploads are open; confirm or delete some first.")
    expires_at = now(session) + timedelta(hours=PENDING_HOURS)
    asset = new_asset(session, owner, filename=filename, expires_at=expires_at)
    asset.kind, asset.content_type, asset.key = kind, content_type, f"uploads/{owner.account_id}/{asset.id}"
    session.add(asset)
    session.flush()
    upload = get_storage().presign_put(asset.key, seconds=UPLOAD_SECONDS, content_type=content_type, size=size)
    if upload is None:
        until = now(session) + timedelta(seconds=UPLOAD_SECONDS)
        upload = Upload(make_upload_link(asset.id, size=size, expires_at=until), headers={"content-type": content_type})
    return asset, upload


def receive(session: Session, link: UploadLink, file: BinaryIO) -> None:
    """Store the bytes of a pending asset that were put at an address of ours; `confirm` follows.

    Raises AppError `gone` when the address has expired, `not_found`, `conflict` when the asset is no longer pending,
    and `asset_refused` for another number of bytes than was announced.
    """
    if link.token.has_expired(now(session)):
        raise AppError("gone", "This address has expired; begin the upload again.")
    asset = session.get(Asset, link.asset_id, with_for_update=True)
    if asset is None or asset.state == AssetState.DELETED:
        raise not_found("asset", link.asset_id)
    _require_pending(asset)
    with tempfile.TemporaryDirectory(prefix="cinemeter-received-") as folder:
        path = Path(folder) / "file"
        try:
            write_capped(file, path, bytes_max=link.size)
            if path.stat().st_size != link.size:
                raise RefusedError(f"it has {path.stat().st_size:,} bytes; {link.size:,} were announced")
        except RefusedError as refused:
            raise AppError("asset_refused", f"The file was refused: {refused}.", field="file") from refused
        get_storage().put_file(str(asset.key), path, str(asset.content_type))


def confirm(session: Session, owner: AssetOwner, asset_id: str, *, expires_at: datetime | None = None) -> Asset:
    """Read the file that was uploaded, keep it written anew, and return the asset: ready, or refused with the reason.

    A refusal is kept on the asset and not raised, because a raised one would be rolled back and the file read again.
    Raises AppError `not_found`, `conflict` when the asset is not pending or its file has not arrived, and
    `rate_limited` or `unavailable` when too many files are being taken.
    """
    asset = get_asset(session, owner, asset_id, lock=True)
    _require_pending(asset)
    storage, raw_key = get_storage(), str(asset.key)
    stat = storage.stat(raw_key)
    if stat is None:
        raise AppError("conflict", "The file has not arrived yet; put it first.", id=asset_id)
    with (
        ingest_slot(owner.account_id),
        tempfile.TemporaryDirectory(prefix="cinemeter-received-") as received,
        tempfile.TemporaryDirectory(prefix="cinemeter-asset-") as output,
    ):
        path = Path(received) / "file"
        try:
            if stat.bytes > bytes_max(asset.kind):
                raise RefusedError(f"it has {stat.bytes:,} bytes; {bytes_max(asset.kind):,} are allowed")
            # No further than was measured: until it is read, the client may put another file in its place.
            with path.open("wb") as copy:
                copy.writelines(storage.read_range(raw_key, 0, stat.bytes))
            store_asset(session, asset, probe_file(path, Path(output), want=asset.kind))
            asset.expires_at = expires_at or now(session) + timedelta(days=KEEP_DAYS)
        except RefusedError as refused:
            asset.state, asset.refused_reason, asset.key = AssetState.REFUSED, f"{refused}.", None
    storage.delete(raw_key)
    session.flush()
    return asset


def _require_pending(asset: Asset) -> None:
    if asset.state != AssetState.PENDING:
        raise AppError("conflict", f"The asset is {asset.state} already.", id=asset.id, state=asset.state)
