"""The shots of a film that is being made: the progress of each, and the clips of those that are rendered."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from app.db import commit_early
from app.errors import not_found
from app.jobs.find import find_job
from app.jobs.shot_progress import shot_clip, shot_progress
from app.storage import get_storage
from app.web.auth import CreatorDep, SessionDep
from app.web.render import page

router = APIRouter(prefix="/films", include_in_schema=False)

Index = Annotated[int, Path(ge=0, le=1000)]


@router.get("/{video_id}/shots")
def show_shots(request: Request, session: SessionDep, visitor: CreatorDep, video_id: str) -> Response:
    """Return the tiles of a film's shots, which its page shows while it is made."""
    job = find_job(session, visitor.caller, video_id)
    return page(request, "studio/shot_tiles.html", film_id=job.id, tiles=shot_progress(session, job))


@router.get("/{video_id}/clips/{shot}/{position}")
def send_clip(
    session: SessionDep, visitor: CreatorDep, video_id: str, shot: Index, position: Index
) -> StreamingResponse:
    """Send one rendered segment of a shot. Raises AppError `not_found`."""
    key, storage = shot_clip(session, find_job(session, visitor.caller, video_id), shot, position), get_storage()
    # Nobody waits for the store with a transaction open.
    commit_early(session)
    stored = storage.stat(key)
    if stored is None:
        raise not_found("clip", f"{video_id}, shot {shot}, segment {position}")
    headers = {"cache-control": "private, max-age=3600", "content-length": str(stored.bytes)}
    return StreamingResponse(storage.read_range(key, 0, stored.bytes), media_type="video/mp4", headers=headers)
