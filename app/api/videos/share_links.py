"""Routes of share links: public pages of a film that its owner makes and revokes."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import VideosCaller
from app.audit_log.actor import Actor
from app.jobs.find import find_job
from app.jobs.schemas import unix
from app.jobs.share_links import SECONDS_MIN, revoke_share_link, share_film, share_links_of, share_url
from app.jobs.share_tables import ShareLink
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/videos", tags=["videos"])


class ShareLinkIn(BaseModel):
    """For how long a share link works."""

    model_config = ConfigDict(extra="forbid")

    expires_in: int | None = Field(
        None,
        ge=SECONDS_MIN,
        description="Seconds; the service's policy has a default (7 days) and a maximum (90 days).",
    )


class ShareLinkOut(BaseModel):
    """A public page of a film: whoever has `url` may see the film until `expires_at`, unless it is revoked before."""

    id: str
    object: Literal["video.share_link"] = "video.share_link"
    video: str
    url: str
    created_at: int
    expires_at: int
    revoked_at: int | None = None


class ShareLinkList(BaseModel):
    """The share links of a film that work, the newest first."""

    object: Literal["list"] = "list"
    data: list[ShareLinkOut]


@router.post("/{video_id}/share_links")
def create_share_link(
    session: SessionDep, caller: VideosCaller, video_id: str, request: ShareLinkIn | None = None
) -> ShareLinkOut:
    """Make a public page of a finished film. It shows the film and its marks, and nothing of your account."""
    job = find_job(session, caller, video_id, lock=True)
    seconds = None if request is None else request.expires_in
    return _shown(share_film(session, Actor.of(caller), job, seconds=seconds))


@router.get("/{video_id}/share_links")
def list_share_links(session: SessionDep, caller: VideosCaller, video_id: str) -> ShareLinkList:
    """List the share links of a film that work."""
    job = find_job(session, caller, video_id)
    return ShareLinkList(data=[_shown(each) for each in share_links_of(session, job)])


@router.delete("/{video_id}/share_links/{link_id}")
def delete_share_link(session: SessionDep, caller: VideosCaller, video_id: str, link_id: str) -> ShareLinkOut:
    """Revoke a share link: its page is gone at once."""
    job = find_job(session, caller, video_id, lock=True)
    return _shown(revoke_share_link(session, Actor.of(caller), job, link_id))


def _shown(link: ShareLink) -> ShareLinkOut:
    return ShareLinkOut(
        id=link.id,
        video=link.job_id,
        url=share_url(link),
        created_at=unix(link.created_at) or 0,
        expires_at=unix(link.expires_at) or 0,
        revoked_at=unix(link.revoked_at),
    )
