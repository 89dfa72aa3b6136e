"""Serve stored files: whole or by byte range from local storage, by redirect to a presigned URL from S3."""

import re
from typing import Any, Literal, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session

from app.concurrency import ConcurrencyLimit
from app.db import commit_early
from app.errors import AppError, not_found
from app.jobs.links import open_link
from app.jobs.sound_files import wave_key
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.parsing import parse_integer
from app.request_session import SessionDep
from app.storage import get_storage

Variant = Literal["video", "thumbnail", "spritesheet", "waveform"]
CONTENT_TYPES = {
    "video": "video/mp4",
    "thumbnail": "image/jpeg",
    "spritesheet": "image/jpeg",
    "waveform": "image/png",
}
EXTENSIONS = {"video": "mp4", "thumbnail": "jpg", "spritesheet": "sprites.jpg", "waveform": "wave.png"}
# The responses of `serve`, for the OpenAPI document.
SERVED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file", "content": {kind: {} for kind in CONTENT_TYPES.values()}},
    206: {"description": "The requested byte range", "content": {kind: {} for kind in CONTENT_TYPES.values()}},
    302: {"description": "Redirect to a presigned URL of the file in storage, valid for some minutes"},
    410: {"description": "The files were removed when their retention ended"},
    416: {"description": "The range starts after the end of the file"},
}
# Validity of a presigned URL: long enough to start a download, short enough not to be shared.
PRESIGNED_SECONDS = 900
# Requests that wait for the store at once, of an account and of a process: a store that hangs must not use up the
# places of requests.
_read_slot = ConcurrencyLimit("files", "read", each=8, together=16).hold
# When a client that asks for a film before its end may ask again.
RETRY_SECONDS = 5


def content_key(job: Job, variant: Variant) -> str:
    """Return the storage key of a variant. Raises AppError `not_found`, `conflict` (not ready) or `gone`."""
    if job.files_removed_at is not None:
        raise AppError("gone", "The files of this video were removed when their retention ended.")
    keys = {"video": job.film_key, "thumbnail": job.poster_key, "spritesheet": job.sprites_key}
    # Films without sound have no wave.
    key = wave_key(job.film_key) if job.film_key and (job.film or {}).get("wave") else None
    key = keys.get(variant, key)
    if key is None:
        if not is_final(job.state):
            raise AppError("conflict", "The film is not finished yet.", state=job.state, retry_after=RETRY_SECONDS)
        raise not_found("content", job.id)
    return key


def serve(session: Session, job: Job, variant: Variant, request: Request, *, redirects: bool = True) -> Response:
    """Return the response that delivers a variant of a job's film, or its header fields alone for HEAD.

    Without `redirects` it is delivered from here, whatever store holds it. What the session has done before is
    committed first. Raises AppError as `content_key` does, `gone`, and `rate_limited` or `unavailable` while the store
    is slow.
    """
    key = content_key(job, variant)
    storage = get_storage()
    filename, content_type = f"{job.id}.{EXTENSIONS[variant]}", CONTENT_TYPES[variant]
    is_head = request.method == "HEAD"
    if not is_head and redirects:
        # A presigned URL is for one method only, so HEAD is answered here.
        url = storage.presign_get(key, seconds=PRESIGNED_SECONDS, filename=filename, content_type=content_type)
        if url is not None:
            return RedirectResponse(url, status_code=302, headers={"cache-control": "no-store"})
    commit_early(session)
    with _read_slot(job.account_id):
        stat = storage.stat(key)
    if stat is None:
        raise AppError("gone", "The file is no longer in storage.")
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f'inline; filename="{filename}"',
        "cache-control": "private, max-age=3600",
        "x-content-type-options": "nosniff",
    }
    if is_head:
        # A range is for GET only (RFC 9110 §14.2).
        return Response(media_type=content_type, headers={**headers, "content-length": str(stat.bytes)})
    span = byte_range(request.headers.get("range"), stat.bytes)
    if span is None:
        headers["content-length"] = str(stat.bytes)
        return StreamingResponse(storage.read_range(key, 0, stat.bytes), media_type=content_type, headers=headers)
    start, end = span
    headers |= {"content-range": f"bytes {start}-{end - 1}/{stat.bytes}", "content-length": str(end - start)}
    return StreamingResponse(
        storage.read_range(key, start, end), status_code=206, media_type=content_type, headers=headers
    )


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the requested range as (start, end), end exclusive, or None for the whole file (RFC 9110 §14).

    A header that is not a single byte range is ignored, as the standard allows. Raises AppError
    `range_not_satisfiable` for a range after the end of the file.
    """
    match = re.fullmatch(r"\s*bytes=([0-9]*)-([0-9]*)\s*", header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = (parse_integer(each) for each in match.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    else:
        start, end = first, size if last is None else min(size, last + 1)
    if start >= size or start >= end:
        raise AppError("range_not_satisfiable", f"The file has {size} bytes.", field="Range", allowed=f"0-{size - 1}")
    return start, end


router = APIRouter(tags=["files"])


@router.head("/files/{token}", include_in_schema=False)
@router.get("/files/{token}", response_class=Response, responses=SERVED)
def get_file(http: Request, session: SessionDep, token: str) -> Response:
    """Download the file of a signed link, until the link expires."""
    job, variant = open_link(session, token)
    return serve(session, job, cast(Variant, variant), http)
