"""The pictures, clips and sounds of a request: uploaded, fetched or named, they become assets of the account."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.caller import Caller
from app.assets.ingest import ingest_upload, ingest_url
from app.assets.sniff import Kind
from app.assets.tables import Asset
from app.errors import AppError
from app.jobs.file_retention import retention_end
from app.jobs.schemas import VideoRequest
from app.storage import get_storage

KINDS: dict[str, Kind] = {"first_frame": "picture", "last_frame": "picture", "video": "clip", "audio": "sound"}
FRAMES = ("first_frame", "last_frame")


def ingest_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> VideoRequest:
    """Return the request with every picture, clip and sound named by asset id.

    An id stays as it is; an https or data URL is fetched, and a file of the form stored, each probed and re-encoded
    before it counts. Raises AppError for what cannot be used, naming the field.
    """
    return _Taking(session, caller).take(request, files)


@contextmanager
def borrowed_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> Iterator[VideoRequest]:
    """Give the block what `take_inputs` returns, and forget all that was taken at its end. Raises as it does."""
    taking, savepoint = _Taking(session, caller), session.begin_nested()
    try:
        yield taking.take(request, files)
    finally:
        keys = [str(asset.key) for asset in taking.taken]
        savepoint.rollback()
        for key in keys:
            get_storage().delete(key)


def has_inputs(request: VideoRequest, files: Mapping[str, UploadFile]) -> bool:
    """Return whether anything of the request would have to be taken: a file of the form, or what an address names."""
    values = [getattr(request, field) for field in KINDS]
    values += [getattr(shot, field) for shot in request.shots or () for field in FRAMES]
    return bool(files) or any(_is_address(each) for each in values)


class _Taking:
    """Takes the inputs of one request, and remembers the assets that it made."""

    def __init__(self, session: Session, caller: Caller) -> None:
        self.session = session
        self.owner = caller
        self.until: datetime = retention_end(session, caller.account_id)
        self.taken: list[Asset] = []

    def take(self, request: VideoRequest, files: Mapping[str, UploadFile]) -> VideoRequest:
        """Return the request with every input named by asset id."""
        changes: dict[str, Any] = {}
        for field, file in files.items():
            if field not in KINDS:
                raise AppError("invalid_request", f"{field} takes no file.", field=field, allowed=[*KINDS])
            if getattr(request, field) is not None:
                raise AppError("invalid_request", f"{field} is given as a file and as a value.", field=field)
            changes[field] = self._file(file, field)
        for field, kind in KINDS.items():
            if _is_address(value := getattr(request, field)):
                changes[field] = self._address(value, kind, field)
        if request.shots is not None:
            changes["shots"] = [
                shot.model_copy(
                    update={
                        field: self._address(value, "picture", f"shots.{number}.{field}")
                        for field in FRAMES
                        if _is_address(value := getattr(shot, field))
                    }
                )
                for number, shot in enumerate(request.shots)
            ]
        return request.model_copy(update=changes) if changes else request

    def _file(self, file: UploadFile, field: str) -> str:
        return self._note(
            ingest_upload(self.session, self.owner, file.file, kind=KINDS[field], field=field, expires_at=self.until)
        )

    def _address(self, address: str, kind: Kind, field: str) -> str:
        return self._note(ingest_url(self.session, self.owner, address, kind=kind, field=field, expires_at=self.until))

    def _note(self, asset: Asset) -> str:
        self.taken.append(asset)
        return asset.id


def _is_address(value: str | None) -> bool:
    return value is not None and ":" in value
