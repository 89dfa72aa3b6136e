"""Groups: jobs that one call ordered together. Each is a job of its own; the group ends when all of them have ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from sqlalchemy import Connection, case, select, update
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import not_found
from app.events.record import record_event
from app.events.types import GROUP_ENDED, TERMINAL_TYPES
from app.jobs.find import receipts_of
from app.jobs.group_tables import Group
from app.jobs.prediction import group_prediction_text
from app.jobs.present import show_job
from app.jobs.schemas import VideoOut, unix
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job, ReceiptRow
from app.webhooks.fanout import fan_out
from pricing.money import Money


class GroupOut(BaseModel):
    """Films that one call ordered together, in the order of their seeds, without those that were deleted.

    `counts` are the films by status. `total` is what all of them cost at most, `charged` what those that have ended
    were charged.
    """

    id: str
    object: Literal["video.group"] = "video.group"
    status: Literal["in_progress", "ended"]
    n: int
    counts: dict[str, int]
    created_at: int
    completed_at: int | None = None
    currency: str | None = None
    total: str | None = None
    charged: str | None = None
    project: str | None = None
    test: bool = False
    videos: list[VideoOut]


class GroupReader(Protocol):
    """Whose groups may be read: a caller, or the holder of a key."""

    @property
    def account_id(self) -> str: ...
    @property
    def test(self) -> bool: ...
    @property
    def project_id(self) -> str | None: ...


def find_group(session: Session, caller: GroupReader, group_id: str) -> Group:
    """Return the caller's group. Raises AppError `not_found`, the same for another tenant's group."""
    group = session.get(Group, group_id, populate_existing=True)
    if group is None or group.account_id != caller.account_id or group.test != caller.test:
        raise not_found("group", group_id)
    if caller.project_id is not None and group.project_id != caller.project_id:
        raise not_found("group", group_id)
    return group


def jobs_of(session: Session, group_id: str) -> list[Job]:
    """Return the jobs of a group, deleted ones too, in the order of their seeds."""
    query = select(Job).where(Job.group_id == group_id).order_by(Job.group_index)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def present_jobs(session: Session, group: Group) -> list[Job]:
    """Return the jobs of a group that were not deleted. Raises AppError `not_found` where all were."""
    jobs = [job for job in jobs_of(session, group.id) if job.deleted_at is None]
    if not jobs:
        raise not_found("group", group.id)
    return jobs


def is_group(id_: str) -> bool:
    """Return whether an id is that of a group; a job's begins otherwise."""
    return id_.startswith("group_")


def read_group(connection: Connection, holder: GroupReader, group_id: str) -> list[Job]:
    """Return the jobs of a group of a key's holder that were not deleted. Raises AppError `not_found`."""
    with Session(connection, expire_on_commit=False) as session:
        return present_jobs(session, find_group(session, holder, group_id))


# Of the states in which the jobs of an ended group are, the first of these is the group's.
_ENDS = (JobState.COMPLETED, JobState.CANCELLED, JobState.FAILED, JobState.EXPIRED)


def state_of(jobs: Sequence[Job]) -> JobState:
    """Return the state of jobs together: ended once all have ended, and completed where one of them is."""
    states = {JobState(job.state) for job in jobs}
    if states <= FINAL:
        return next(state for state in _ENDS if state in states)
    return JobState.QUEUED if states == {JobState.QUEUED} else JobState.IN_PROGRESS


def show_group(
    group: Group, jobs: Sequence[Job], receipts: Mapping[str, ReceiptRow], videos: Iterable[VideoOut]
) -> GroupOut:
    """Return the API representation of a group: of all its jobs, the receipts of those that ended, and its videos."""
    counts = {str(state): sum(job.state == state for job in jobs) for state in JobState}
    currency = jobs[0].currency
    charged = sum(receipt.total for receipt in receipts.values())
    return GroupOut(
        id=group.id,
        status="in_progress" if group.unfinished else "ended",
        n=group.size,
        counts={state: count for state, count in counts.items() if count},
        created_at=unix(group.created_at) or 0,
        completed_at=unix(group.finished_at),
        currency=currency,
        total=Money(sum(job.total for job in jobs), currency).text,
        charged=Money(0 if group.test else charged, currency).text if receipts else None,
        project=group.project_id,
        test=group.test,
        videos=list(videos),
    )


def end_in_group(session: Session, job: Job) -> None:
    """Count a job of a group that has just ended; the last one publishes the group's end, once.

    The group's row is locked after the job, its shares and their lanes, and before its reservation (app.lock_order).
    """
    if job.group_id is None:
        return
    last = Group.unfinished == 1
    counted = (
        update(Group)
        .where(Group.id == job.group_id)
        .values(unfinished=Group.unfinished - 1, finished_at=case((last, now(session)), else_=None))
        .returning(Group)
        .execution_options(populate_existing=True)
    )
    group = session.scalars(counted).one()
    if not group.unfinished:
        _publish_end(session, group)


# What the group's event tells of each video; the rest is read at its id.
_EVENT_FIELDS = {"id", "status", "seed", "charged", "error", "video_url"}


def _publish_end(session: Session, group: Group) -> None:
    jobs = jobs_of(session, group.id)
    receipts = receipts_of(session, jobs)
    data: dict[str, Any] = show_group(group, jobs, receipts, ()).model_dump(mode="json", exclude_none=True)
    videos = (show_job(job, receipt=receipts.get(job.id)) for job in jobs if job.deleted_at is None)
    # Prompts may be long, and this is written in the transaction that ends the last job.
    data["videos"] = [video.model_dump(mode="json", include=_EVENT_FIELDS, exclude_none=True) for video in videos]
    callback_url, callback_body = group.callback_url, None
    if callback_url is not None and jobs[0].callback_events is not None:
        # Of the types that the order asked for, those of an end stand for the end of the group.
        is_asked = any(type_ in jobs[0].callback_events for type_ in TERMINAL_TYPES)
        callback_url = callback_url if is_asked else None
        callback_body = group_prediction_text(session, jobs, state_of(jobs)) if is_asked else None
    event = record_event(
        session,
        account_id=group.account_id,
        project_id=group.project_id,
        job_id=None,
        type=GROUP_ENDED,
        data=data,
        callback_url=callback_url,
        callback_body=callback_body,
        test=group.test,
        traceparent=group.traceparent,
        request_id=group.request_id,
    )
    fan_out(session, event)
