"""Routes of groups: the videos that one call ordered together, read and cancelled as a whole."""

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.api.access import VideosCaller
from app.api.videos.routes import views
from app.db import commit_early
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job, receipts_of
from app.jobs.groups import GroupOut, find_group, jobs_of, show_group
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/videos/groups", tags=["videos"])


class NotCancelled(BaseModel):
    """A video of a group that was not cancelled: its id, an error code and why."""

    id: str
    code: str
    message: str


class CancelledGroup(GroupOut):
    """A group after its cancel: the ids of the videos that are cancelled, and why each other one is not."""

    cancelled: list[str]
    not_cancelled: list[NotCancelled]


def view_group(session: Session, caller: Caller, group_id: str) -> GroupOut:
    """Return a group with its videos. Raises AppError `not_found`."""
    group = find_group(session, caller, group_id)
    jobs = jobs_of(session, group.id)
    videos = views(session, [job for job in jobs if job.deleted_at is None])
    return show_group(group, jobs, receipts_of(session, jobs), videos)


def cancel_jobs(session: Session, caller: Caller, group_id: str) -> tuple[list[str], list[NotCancelled]]:
    """Cancel what can be cancelled of a group; return the ids of those jobs, and why the others were not.

    Each job is cancelled in a transaction of its own, in the order of the seeds: two of them in one transaction would
    lock in no fixed order (app.lock_order). A repeated call changes nothing. Raises AppError `not_found`.
    """
    find_group(session, caller, group_id)
    cancelled, rest = [], []
    for job_id in [job.id for job in jobs_of(session, group_id) if job.deleted_at is None]:
        commit_early(session)
        try:
            # It may have been deleted meanwhile.
            request_cancel(session, find_job(session, caller, job_id, lock=True))
            cancelled.append(job_id)
        except AppError as refusal:
            rest.append(NotCancelled(id=job_id, code=refusal.code, message=refusal.message))
    commit_early(session)
    return cancelled, rest


@router.get("/{group_id}")
def get_group(session: SessionDep, caller: VideosCaller, group_id: str) -> GroupOut:
    """Return the videos that one call ordered together, in the order of their seeds, and what they cost in all."""
    return view_group(session, caller, group_id)


@router.post("/{group_id}/cancel")
def cancel_group(session: SessionDep, caller: VideosCaller, group_id: str) -> CancelledGroup:
    """Cancel the videos of a group that have not ended, and say which were. What was rendered of them is charged."""
    cancelled, rest = cancel_jobs(session, caller, group_id)
    group = view_group(session, caller, group_id)
    return CancelledGroup(**dict(group), cancelled=cancelled, not_cancelled=rest)
