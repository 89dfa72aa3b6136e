"""Ingest a customer's file: from a request body, a data URL, or a URL that is fetched.

Nobody holds a transaction while a file is received, probed and stored: `read_upload` and `read_url` do that without a
session, and `add_asset` writes the row.
"""

import base64
import binascii
import hashlib
import re
import secrets
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from sqlalchemy.orm import Session

from app.accounts.caller import require_active_now
from app.assets.limits import BYTES_MAX, KEEP_DAYS, LIMITS, RefusedError, ingest_slot
from app.assets.owner import AssetOwner
from app.assets.quota import NO_LIMIT, StorageRoom, storage_room
from app.assets.sandbox_probe import ProbeResult, probe_file
from app.assets.sniff import Kind
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.db import commit_early, new_id
from app.errors import AppError
from app.net.fetch import fetch_to
from app.provenance.blocked_tables import BLOCKED_REASON, is_blocked
from app.storage import Stored, get_storage

_CHUNK_BYTES = 2**20
_FETCH_SECONDS = 60.0
# Escaped characters of a data: URL; each is an object of its own while they are decoded.
_ESCAPES_MAX = 100_000
_FILENAME_LENGTH_MAX = 200
_ENDINGS: dict[Kind, str] = {"picture": "png", "clip": "mp4", "sound": "flac"}


def ingest_upload(
    session: Session,
    owner: AssetOwner,
    file: BinaryIO,
    *,
    kind: Kind | None = None,
    field: str = "file",
    filename: str = "",
    expires_at: datetime | None = None,
    asset_id: str | None = None,
    quota_bytes: int | None = None,
    declaration: dict[str, Any] | None = None,
) -> Asset:
    """Read `file` to its end and store it as a ready asset of the owner; `kind` None accepts any kind.

    `declaration` is what `stored_declaration` returns. What the session has done before is committed first. `asset_id`
    is for an API whose clients name a file before they send it; None creates a new one. `quota_bytes` is what all files
    of the account may have together. Raises AppError as `read_upload` does.
    """
    room = storage_room(session, owner.account_id, quota_bytes=quota_bytes)
    commit_early(session)
    asset = read_upload(owner, file, kind=kind, field=field, filename=filename, asset_id=asset_id, room=room)
    asset.declaration = declaration
    return add_asset(session, asset, expires_at=expires_at)


def ingest_url(
    session: Session,
    owner: AssetOwner,
    url: str,
    *,
    kind: Kind | None = None,
    field: str = "url",
    expires_at: datetime | None = None,
    quota_bytes: int | None = None,
    declaration: dict[str, Any] | None = None,
) -> Asset:
    """Fetch `url` (https: or data:) and store the file as a ready asset of the owner.

    `declaration` is what `stored_declaration` returns. What the session has done before is committed first. Raises
    AppError as `read_url` does.
    """
    room = storage_room(session, owner.account_id, quota_bytes=quota_bytes)
    commit_early(session)
    asset = read_url(owner, url, kind=kind, field=field, room=room)
    asset.declaration = declaration
    return add_asset(session, asset, expires_at=expires_at)


def read_upload(
    owner: AssetOwner,
    file: BinaryIO,
    *,
    kind: Kind | None = None,
    field: str = "file",
    filename: str = "",
    asset_id: str | None = None,
    stored: bool = True,
    room: StorageRoom | None = None,
) -> Asset:
    """Read `file` to its end and return its asset, which `add_asset` writes. Call it without a transaction.

    `stored` False reads only the facts: for a price. `room` is what the account may still store; None is no limit.
    Raises AppError `asset_refused`, with the reason and the field, when the file is too large or cannot be used,
    `storage_full`, and `rate_limited` or `unavailable` while too many are being ingested.
    """

    def receive(path: Path) -> None:
        write_capped(file, path, bytes_max=bytes_max(kind))

    asset = new_asset(owner, filename=filename, asset_id=asset_id)
    return _ingest(asset, receive, kind=kind, field=field, stored=stored, room=room)


def read_url(
    owner: AssetOwner,
    url: str,
    *,
    kind: Kind | None = None,
    field: str = "url",
    stored: bool = True,
    room: StorageRoom | None = None,
) -> Asset:
    """Fetch `url` (https: or data:) and return its asset, which `add_asset` writes. Call it without a transaction.

    Raises AppError `url_refused` when it cannot be fetched, and as `read_upload` does.
    """
    if url[:5].lower() == "data:":

        def receive(path: Path) -> None:
            path.write_bytes(_data(url, bytes_max(kind)))

    else:

        def receive(path: Path) -> None:
            fetch_to(path, url, bytes_max=bytes_max(kind), seconds=_FETCH_SECONDS, field=field)

    asset = new_asset(owner, filename="")
    return _ingest(asset, receive, kind=kind, field=field, stored=stored, room=room)


def require_unblocked(session: Session, asset: Asset) -> None:
    """Raise AppError `asset_refused` for a file that was removed after a report."""
    if is_blocked(session, asset.source_sha256, asset.sha256):
        raise AppError("asset_refused", f"The file was refused: {BLOCKED_REASON}.", field="file")


def add_asset(session: Session, asset: Asset, *, expires_at: datetime | None = None) -> Asset:
    """Write the row of an asset, which by default expires after KEEP_DAYS.

    Raises AppError `account_suspended` where the account was suspended meanwhile, and `asset_refused` for a file that
    was removed after a report. What was stored of it refers to no row, so retention removes it.
    """
    require_active_now(session, asset.account_id)
    require_unblocked(session, asset)
    asset.created_at = now(session)
    asset.expires_at = expires_at or asset.created_at + timedelta(days=KEEP_DAYS)
    session.add(asset)
    session.flush()
    return asset


def store_file(asset: Asset, result: ProbeResult) -> tuple[str, Stored]:
    """Store the re-encoded file of an asset under a key of its own; return the key and what was stored."""
    # Two requests may read one upload at once; each has its own file, and one of them its row.
    key = f"assets/{asset.account_id}/{asset.id}-{secrets.token_hex(4)}.{_ENDINGS[result.kind]}"
    return key, get_storage().put_file(key, result.path, result.content_type)


def make_ready(asset: Asset, result: ProbeResult, key: str, stored: Stored) -> None:
    """Make an asset ready with the facts of its stored file."""
    asset.state, asset.kind, asset.key, asset.content_type = (
        AssetState.READY,
        result.kind,
        key,
        result.content_type,
    )
    asset.bytes, asset.sha256 = stored.bytes, stored.sha256
    asset.width, asset.height, asset.frames = result.width, result.height, result.frames
    asset.fps, asset.seconds, asset.has_audio = result.fps, result.seconds, result.has_audio
    asset.marks = result.marks


def new_asset(owner: AssetOwner, *, filename: str, asset_id: str | None = None) -> Asset:
    """Return a new pending asset without a row; see `add_asset`."""
    return Asset(
        id=asset_id or new_id("asset"),
        account_id=owner.account_id,
        project_id=owner.project_id,
        test=owner.test,
        state=AssetState.PENDING,
        filename=re.sub(r"[\x00-\x1f\x7f]", "", filename.replace("\\", "/").rsplit("/", 1)[-1])[:_FILENAME_LENGTH_MAX],
        has_audio=False,
    )


def write_capped(file: BinaryIO, path: Path, *, bytes_max: int) -> None:
    """Copy `file` to `path`. Raises RefusedError as soon as it exceeds `bytes_max`."""
    size = 0
    with path.open("wb") as copy:
        while piece := file.read(_CHUNK_BYTES):
            size += len(piece)
            if size > bytes_max:
                raise RefusedError(f"it is larger than {bytes_max:,} bytes")
            copy.write(piece)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_max(kind: Kind | None) -> int:
    """Return the size limit in bytes of a file of this kind, or of any kind for None."""
    return LIMITS[kind].bytes_max if kind else BYTES_MAX


def _ingest(
    asset: Asset,
    receive: Callable[[Path], None],
    *,
    kind: Kind | None,
    field: str,
    stored: bool,
    room: StorageRoom | None,
) -> Asset:
    # Checked first, so that nothing is read for an account that may store nothing.
    room = room or NO_LIMIT
    room.check(1)
    # The received file is alone in its folder, and the output in another: there is nothing that it could refer to.
    with (
        ingest_slot(asset.account_id),
        tempfile.TemporaryDirectory(prefix="cinemeter-received-") as received,
        tempfile.TemporaryDirectory(prefix="cinemeter-asset-") as output,
    ):
        path = Path(received) / "file"
        try:
            receive(path)
            result = probe_file(path, Path(output), want=kind)
            asset.source_sha256 = file_sha256(path)
        except RefusedError as refused:
            raise AppError("asset_refused", f"The file was refused: {refused}.", field=field) from refused
        size = result.path.stat().st_size
        room.check(size)
        if stored:
            make_ready(asset, result, *store_file(asset, result))
        else:
            make_ready(asset, result, "assets/unstored", Stored("assets/unstored", size, ""))
    return asset


def _data(url: str, bytes_max: int) -> bytes:
    """Decode a data: URL; its declared type is ignored. Raises RefusedError when it is malformed or too large."""
    head, comma, body = url.partition(",")
    if not comma:
        raise RefusedError("its data: URL has no comma")
    # Base64 has four characters for three bytes, so the length is checked before anything is decoded.
    if len(body) > bytes_max * 2:
        raise RefusedError(f"it is larger than {bytes_max:,} bytes")
    if body.count("%") > _ESCAPES_MAX:
        raise RefusedError("its data: URL has too many escaped characters; encode it as base64")
    raw = unquote_to_bytes(body)
    if head.lower().endswith(";base64"):
        try:
            raw = base64.b64decode(raw, validate=True)
        except binascii.Error as error:
            raise RefusedError("its data: URL is not valid base64") from error
    if len(raw) > bytes_max:
        raise RefusedError(f"it is larger than {bytes_max:,} bytes")
    return raw
