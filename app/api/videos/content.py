"""Serve the files of a film: which one a request means, and until when it is there."""

from datetime import datetime
from typing import Any, Literal, cast

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.file_delivery import deliver
from app.jobs.backfill import first_key
from app.jobs.links import open_link
from app.jobs.sound_files import wave_key
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.request_session import SessionDep

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
    304: {"description": "The client has this file already (`If-None-Match`)"},
    302: {"description": "Redirect to a presigned URL of the file in storage, valid for some minutes"},
    410: {"description": "The files were removed when their retention ended"},
    416: {"description": "The range starts after the end of the file"},
}
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


def serve(
    session: Session,
    job: Job,
    variant: Variant,
    request: Request,
    *,
    redirects: bool = True,
    linked_at: datetime | None = None,
) -> Response:
    """Return the response that delivers a variant of a job's film, or its header fields alone for HEAD.

    A link that was made (`linked_at`) before the film got its marks delivers the film as it was then. Without
    `redirects` it is delivered from here, whatever store holds it. What the session has done before is committed first.
    Raises AppError as `content_key` does, `gone`, and `rate_limited` or `unavailable` while the store is slow.
    """
    key = content_key(job, variant)
    if linked_at is not None and variant == "video":
        key = first_key(session, job.id, linked_at) or key
    return deliver(
        session,
        request,
        key,
        account_id=job.account_id,
        filename=f"{job.id}.{EXTENSIONS[variant]}",
        content_type=CONTENT_TYPES[variant],
        redirects=redirects,
    )


router = APIRouter(tags=["files"])


@router.head("/files/{token}", include_in_schema=False)
@router.get("/files/{token}", response_class=Response, responses=SERVED)
def get_file(http: Request, session: SessionDep, token: str) -> Response:
    """Download the file of a signed link, until the link expires."""
    link = open_link(session, token)
    return serve(session, link.job, cast(Variant, link.variant), http, linked_at=link.made_at)
