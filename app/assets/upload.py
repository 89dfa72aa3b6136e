"""Uploads in two steps: begin (the client gets an upload URL), then confirm (the file is re-encoded and stored).

The store is never waited for with a transaction open: the row is read, the file is handled, and then the row is
locked, checked again and written.
"""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.caller import require_active_now
from app.assets.find import get_asset
from app.assets.ingest import add_asset, bytes_max, file_sha256, make_ready, new_asset, store_file, write_capped
from app.assets.limits import KEEP_DAYS, PENDING_HOURS, PENDING_MAX, RefusedError, ingest_slot
from app.assets.links import UploadLink, make_upload_link
from app.assets.owner import AssetOwner
from app.assets.quota import check_quota, storage_room
from app.assets.sandbox_probe import probe_file
from app.assets.sniff import Kind
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.db import commit_early
from app.errors import AppError, not_found
from app.provenance.blocked_tables import BLOCKED_REASON, is_blocked
from app.storage import Upload, get_storage

# How long an upload URL is valid.
UPLOAD_SECONDS = 900


def begin_upload(
    session: Session,
    owner: AssetOwner,
    *,
    kind: Kind | None,
    filename: str,
    content_type: str,
    size: int,
    quota_bytes: int | None = None,
    declaration: dict[str, Any] | None = None,
) -> tuple[Asset, Upload]:
    """Return a pending asset and the URL to which the client puts its file of `size` bytes within UPLOAD_SECONDS.

    When storage has no presigned URLs, the URL is one of our API, whose route calls `receive`. Either way the client
    needs no key. `quota_bytes` is what all files of the account may have together, this one included. Raises AppError
    `asset_refused` for a size beyond the limit, `conflict` when too many uploads are pending, and `storage_full`.
    """
    if size > bytes_max(kind):
        message = f"The file was refused: it has {size:,} bytes; {bytes_max(kind):,} are allowed."
        raise AppError("asset_refused", message, field="bytes", value=size, allowed=bytes_max(kind))
    pending = select(func.count()).where(Asset.account_id == owner.account_id, Asset.state == AssetState.PENDING)
    if session.scalars(pending).one() >= PENDING_MAX:
        raise AppError("conflict", f"{PENDING_MAX} uploads are pending; confirm or delete some first.")
    check_quota(session, owner.account_id, size, quota_bytes=quota_bytes)
    asset = new_asset(owner, filename=filename)
    asset.kind, asset.content_type, asset.key = kind, content_type, f"uploads/{owner.account_id}/{asset.id}"
    asset.bytes, asset.declaration = size, declaration
    add_asset(session, asset, expires_at=now(session) + timedelta(hours=PENDING_HOURS))
    upload = get_storage().presign_put(asset.key, seconds=UPLOAD_SECONDS, content_type=content_type, size=size)
    if upload is None:
        until = now(session) + timedelta(seconds=UPLOAD_SECONDS)
        upload = Upload(make_upload_link(asset.id, size=size, expires_at=until), headers={"content-type": content_type})
    return asset, upload


def receive(session: Session, link: UploadLink, file: BinaryIO) -> None:
    """Store the file of a pending asset that was put to our own upload URL; `confirm` follows.

    Raises AppError `gone` when the URL has expired, `not_found`, `conflict` when the asset is no longer pending, and
    `asset_refused` for a size other than announced.
    """
    if link.token.has_expired(now(session)):
        raise AppError("gone", "This upload URL has expired; start the upload again.")
    asset = session.get(Asset, link.asset_id)
    if asset is None or asset.state == AssetState.DELETED:
        raise not_found("asset", link.asset_id)
    _require_pending(asset)
    # Where it is confirmed or deleted meanwhile, the file has no row and is removed with others of that kind.
    commit_early(session)
    with ingest_slot(asset.account_id), tempfile.TemporaryDirectory(prefix="cinemeter-received-") as folder:
        path = Path(folder) / "file"
        try:
            write_capped(file, path, bytes_max=link.size)
            if path.stat().st_size != link.size:
                raise RefusedError(f"it has {path.stat().st_size:,} bytes; {link.size:,} were announced")
        except RefusedError as refused:
            raise AppError("asset_refused", f"The file was refused: {refused}.", field="file") from refused
        get_storage().put_file(str(asset.key), path, str(asset.content_type))


def confirm(
    session: Session,
    owner: AssetOwner,
    asset_id: str,
    *,
    expires_at: datetime | None = None,
    quota_bytes: int | None = None,
) -> Asset:
    """Re-encode and store the uploaded file, and return the asset: ready, or refused with the reason.

    What the session has done before is committed first. A refusal is stored on the asset and not raised, because an
    exception would roll it back and the file would be read again. `quota_bytes` is as in `begin_upload`. Raises
    AppError `not_found`, `conflict` when the asset is not pending, was confirmed meanwhile or its file has not arrived,
    `account_suspended` where the account was suspended meanwhile, `storage_full`, and `rate_limited` or `unavailable`
    while too many files are being ingested.
    """
    asset = get_asset(session, owner, asset_id)
    _require_pending(asset)
    raw_key, room = str(asset.key), storage_room(session, owner.account_id, quota_bytes=quota_bytes)
    commit_early(session)
    with (
        ingest_slot(owner.account_id),
        tempfile.TemporaryDirectory(prefix="cinemeter-received-") as received,
        tempfile.TemporaryDirectory(prefix="cinemeter-asset-") as output,
    ):
        reason, key = "", None
        try:
            _read_raw(raw_key, asset, Path(received) / "file")
            result = probe_file(Path(received) / "file", Path(output), want=asset.kind)
            # The announced bytes are counted already; the re-encoded file may have more.
            room.check(result.path.stat().st_size - (asset.bytes or 0))
            key, stored = store_file(asset, result)
            source_sha256 = file_sha256(Path(received) / "file")
        except RefusedError as refused:
            reason = f"{refused}."
    asset = get_asset(session, owner, asset_id, lock=True)
    if asset.state != AssetState.PENDING:
        commit_early(session)
        if key is not None:
            get_storage().delete(key)
        _require_pending(asset)
    if key is not None and is_blocked(session, source_sha256):
        # What was stored refers to no row, so retention removes it.
        key, reason = None, f"{BLOCKED_REASON}."
    if key is None:
        asset.state, asset.refused_reason, asset.key = AssetState.REFUSED, reason, None
    else:
        # Raised, what was stored refers to no row either.
        require_active_now(session, asset.account_id)
        make_ready(asset, result, key, stored)
        asset.source_sha256 = source_sha256
        asset.expires_at = expires_at or now(session) + timedelta(days=KEEP_DAYS)
    session.flush()
    commit_early(session)
    get_storage().delete(raw_key)
    return asset


def _read_raw(raw_key: str, asset: Asset, path: Path) -> None:
    """Copy an uploaded file to `path`. Raises AppError `conflict` before it has arrived, and RefusedError."""
    storage = get_storage()
    stat = storage.stat(raw_key)
    if stat is None:
        raise AppError("conflict", "The file has not arrived yet; upload it first.", id=asset.id)
    if stat.bytes > bytes_max(asset.kind):
        raise RefusedError(f"it has {stat.bytes:,} bytes; {bytes_max(asset.kind):,} are allowed")
    # Only the measured size: the client may still replace the file by another one.
    with path.open("wb") as copy:
        copy.writelines(storage.read_range(raw_key, 0, stat.bytes))


def _require_pending(asset: Asset) -> None:
    if asset.state != AssetState.PENDING:
        raise AppError("conflict", f"The asset is already {asset.state}.", id=asset.id, state=asset.state)
