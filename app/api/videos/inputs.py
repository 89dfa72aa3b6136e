"""The input files of a request: uploaded, fetched from a URL or named by id, they become assets of the account."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.caller import Caller
from app.assets.ingest import ingest_upload, ingest_url
from app.assets.sniff import Kind
from app.assets.tables import Asset
from app.errors import AppError
from app.jobs.file_retention import retention_end, storage_quota
from app.jobs.schemas import VideoRequest
from app.storage import get_storage

KINDS: dict[str, Kind] = {"first_frame": "picture", "last_frame": "picture", "video": "clip", "audio": "sound"}
FRAMES = ("first_frame", "last_frame")


def ingest_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> VideoRequest:
    """Return the request with every image, clip and sound file named by asset id.

    An id stays as it is. An https or data URL is fetched, and an uploaded file stored; each is probed and re-encoded
    before it can be used. Raises AppError for a file that cannot be used, naming the field.
    """
    return _InputIngest(session, caller).run(request, files)


@contextmanager
def borrowed_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> Iterator[VideoRequest]:
    """Yield what `ingest_inputs` returns, and delete the new assets when the block ends. Raises as it does."""
    ingest, savepoint = _InputIngest(session, caller), session.begin_nested()
    try:
        yield ingest.run(request, files)
    finally:
        keys = [str(asset.key) for asset in ingest.assets]
        savepoint.rollback()
        for key in keys:
            get_storage().delete(key)


def has_inputs(request: VideoRequest, files: Mapping[str, UploadFile]) -> bool:
    """Return whether the request has inputs to ingest: an uploaded file, or a URL."""
    values = [getattr(request, field) for field in KINDS]
    values += [getattr(shot, field) for shot in request.shots or () for field in FRAMES]
    return bool(files) or any(_is_url(each) for each in values)


class _InputIngest:
    """Ingest the inputs of one request, and keep a list of the new assets."""

    def __init__(self, session: Session, caller: Caller) -> None:
        self.session = session
        self.owner = caller
        self.terms: dict[str, Any] = {
            "expires_at": retention_end(session, caller.account_id),
            "quota_bytes": storage_quota(session, caller.account_id),
        }
        self.assets: list[Asset] = []

    def run(self, request: VideoRequest, files: Mapping[str, UploadFile]) -> VideoRequest:
        """Return the request with every input named by asset id."""
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
        return self._add(
            ingest_upload(self.session, self.owner, file.file, kind=KINDS[field], field=field, **self.terms)
        )

    def _from_url(self, url: str, kind: Kind, field: str) -> str:
        return self._add(ingest_url(self.session, self.owner, url, kind=kind, field=field, **self.terms))

    def _add(self, asset: Asset) -> str:
        self.assets.append(asset)
        return asset.id


def _is_url(value: str | None) -> bool:
    return value is not None and ":" in value
