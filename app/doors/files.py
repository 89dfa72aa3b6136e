"""The address of expiring links: films for clients that download without a key."""

from typing import cast

from fastapi import APIRouter, Request, Response

from app.doors.access import SessionDep
from app.doors.videos.content import SERVED, Variant, serve
from app.jobs.links import open_link

router = APIRouter(tags=["files"])


@router.get("/files/{token}", response_class=Response, responses=SERVED)
def get_file(http: Request, session: SessionDep, token: str) -> Response:
    """Deliver the file that a link names, until the link expires."""
    job, variant = open_link(session, token)
    return serve(job, cast(Variant, variant), http.headers.get("range"))
