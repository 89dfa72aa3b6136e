"""The pictures, clips and sounds of a request: uploaded, fetched or named, they become assets of the account."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.caller import Caller
from app.assets.sniff import Kind
from app.assets.take import take_address, take_upload
from app.errors import AppError
from app.jobs.keep import keep_until
from app.jobs.shapes import VideoRequest

KINDS: dict[str, Kind] = {"first_frame": "picture", "last_frame": "picture", "video": "clip", "audio": "sound"}


def take_inputs(
    session: Session, caller: Caller, request: VideoRequest, files: Mapping[str, UploadFile]
) -> VideoRequest:
    """Return the request with every picture, clip and sound named by asset id.

    An id stays as it is; an https or data URL is fetched, and a file of the form stored, each probed and re-encoded
    before it counts. Raises AppError for what cannot be used, naming the field.
    """
    changes: dict[str, Any] = {}
    owner, until = caller.account_id, keep_until(session, caller.account_id)
    for field, file in files.items():
        if field not in KINDS:
            raise AppError("invalid_request", f"{field} takes no file.", field=field, allowed=[*KINDS])
        if getattr(request, field) is not None:
            raise AppError("invalid_request", f"{field} is given as a file and as a value.", field=field)
        taken = take_upload(session, owner, file.file, kind=KINDS[field], field=field, expires_at=until)
        changes[field] = taken.id
    for field, kind in KINDS.items():
        given = getattr(request, field)
        if given is not None and ":" in given:
            changes[field] = take_address(session, owner, given, kind=kind, field=field, expires_at=until).id
    if request.shots is not None:
        changes["shots"] = [
            shot.model_copy(
                update={
                    field: take_address(
                        session, owner, given, kind="picture", field=f"shots.{number}.{field}", expires_at=until
                    ).id
                    for field in ("first_frame", "last_frame")
                    if (given := getattr(shot, field)) is not None and ":" in given
                }
            )
            for number, shot in enumerate(request.shots)
        ]
    return request.model_copy(update=changes) if changes else request
