"""The input files of a request: uploaded, fetched from a URL or named by id, they become assets of the account."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.caller import Caller
from app.assets.ingest import add_asset, read_upload, read_url
from app.assets.quota import StorageRoom, storage_room
from app.assets.sniff import Kind
from app.assets.tables import Asset
from app.db import commit_early
from app.errors import AppError
from app.jobs.file_retention import retention_end, storage_quota
from app.jobs.schemas import VideoRequest

KINDS: dict[str, Kind] = {"first_frame": "picture", "last_frame": "picture", "video": "clip", "audio": "sound"}
FRAMES = ("first_frame", "last_frame")


# Checks what a request has become, with its new assets, which have no row yet.
FilesCheck = Callable[[VideoRequest, Sequence[Asset]], None]


def ingest_inputs(
    session: Session,
    caller: Caller,
    request: VideoRequest,
    files: Mapping[str, UploadFile],
    *,
    check: FilesCheck,
) -> VideoRequest:
    """Return the request with every image, clip and sound file named by asset id.

    An id stays as it is. An https or data URL is fetched, and an uploaded file stored; each is probed and re-encoded
    before it can be used. What the session has done before is then committed first. `check` sees the files before their
    assets are written, so that nothing remains of those that it refuses; it is called in any case. Raises AppError for
    a file that cannot be used, naming the field, and whatever `check` raises.
    """
    if not has_inputs(request, files):
        check(request, ())
        return request
    ingest = _InputIngest(session, caller)
    changed = ingest.run(request, files)
    check(changed, ingest.assets)
    ingest.save()
    return changed


@contextmanager
def borrowed_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> Iterator[VideoRequest]:
    """Yield what `ingest_inputs` returns; the new assets exist until the block ends, and their files are not stored.

    For prices, which depend only on the facts of a file. Raises as `ingest_inputs` does.
    """
    if not has_inputs(request, files):
        yield request
        return
    ingest = _InputIngest(session, caller, stored=False)
    changed = ingest.run(request, files)
    savepoint = session.begin_nested()
    try:
        ingest.save()
        yield changed
    finally:
        savepoint.rollback()


def has_inputs(request: VideoRequest, files: Mapping[str, UploadFile]) -> bool:
    """Return whether the request has inputs to ingest: an uploaded file, or a URL."""
    values = [getattr(request, field) for field in KINDS]
    values += [getattr(shot, field) for shot in request.shots or () for field in FRAMES]
    return bool(files) or any(_is_url(each) for each in values)


class _InputIngest:
    """Ingest the inputs of one request: first every file, without a transaction, and then the rows of the assets."""

    def __init__(self, session: Session, caller: Caller, *, stored: bool = True) -> None:
        self.session = session
        self.owner = caller
        self.stored = stored
        self.until: datetime = retention_end(session, caller.account_id)
        quota_bytes = storage_quota(session, caller.account_id)
        self.room: StorageRoom = storage_room(session, caller.account_id, quota_bytes=quota_bytes)
        self.assets: list[Asset] = []

    def run(self, request: VideoRequest, files: Mapping[str, UploadFile]) -> VideoRequest:
        """Return the request with every input named by the id of an asset, which `save` writes."""
        commit_early(self.session)
        changes: dict[str, Any] = {}
        for field, file in files.items():
            if field not in KINDS:
                raise AppError("invalid_request", f"{field} does not accept a file.", field=field, allowed=[*KINDS])
            if getattr(request, field) is not None:
                raise AppError("invalid_request", f"{field} was sent both as a file and as a value.", field=field)
            changes[field] = self._from_file(file, field)
        for field, kind in KINDS.items():
            if _is_url(value := getattr(request, field)):
                changes[field] = self._from_url(value, kind, field)
        if request.shots is not None:
            changes["shots"] = [
                shot.model_copy(
                    update={
                        field: self._from_url(value, "picture", f"shots.{number}.{field}")
                        for field in FRAMES
                        if _is_url(value := getattr(shot, field))
                    }
                )
                for number, shot in enumerate(request.shots)
            ]
        return request.model_copy(update=changes) if changes else request

    def _from_file(self, file: UploadFile, field: str) -> str:
        terms: dict[str, Any] = {"room": self.room, "stored": self.stored}
        return self._add(read_upload(self.owner, file.file, kind=KINDS[field], field=field, **terms))

    def _from_url(self, url: str, kind: Kind, field: str) -> str:
        terms: dict[str, Any] = {"room": self.room, "stored": self.stored}
        return self._add(read_url(self.owner, url, kind=kind, field=field, **terms))

    def _add(self, asset: Asset) -> str:
        self.assets.append(asset)
        self.room = self.room.less(asset.bytes or 0)
        return asset.id

    def save(self) -> None:
        """Write the rows of the new assets."""
        for asset in self.assets:
            add_asset(self.session, asset, expires_at=self.until)


def _is_url(value: str | None) -> bool:
    return value is not None and ":" in value
