"""The shots of a film that is being made: the progress of each, and the clips of those that are rendered."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.file_delivery import deliver
from app.jobs.find import find_job
from app.jobs.shot_progress import shot_clip, shot_progress
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
    request: Request, session: SessionDep, visitor: CreatorDep, video_id: str, shot: Index, position: Index
) -> Response:
    """Send one segment of a finished shot. Raises AppError as `shot_clip` and `deliver` do."""
    job = find_job(session, visitor.caller, video_id)
    return deliver(
        session,
        request,
        shot_clip(session, job, shot, position),
        account_id=job.account_id,
        filename=f"{job.id}-{shot}-{position}.mp4",
        content_type="video/mp4",
        # A copy in the browser would outlast a film that fails.
        cache_control="private, no-store",
    )
