"""Find jobs: one, or a page of them, always within the caller's account and its test or live side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, select, tuple_
from sqlalchemy.orm import Session, aliased

from app.accounts.caller import Caller
from app.errors import AppError, not_found
from app.jobs.metadata_tables import JobMetadata
from app.jobs.model_life import has_model
from app.jobs.states import is_final
from app.jobs.tables import Job, ReceiptRow

PAGE_MAX = 100


def find_job(session: Session, caller: Caller, job_id: str, *, lock: bool = False) -> Job:
    """Return the caller's job. Raises AppError `not_found`, the same for another tenant's job."""
    query = select(Job).where(Job.id == job_id, *own_jobs(caller))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    job = session.scalar(query)
    if job is None or job.deleted_at is not None:
        raise not_found("video", job_id)
    return job


def find_jobs(session: Session, caller: Caller, job_ids: Sequence[str]) -> list[Job]:
    """Return those of these jobs that the caller has, in the order of their ids here, with one query."""
    query = select(Job).where(Job.id.in_(job_ids), *own_jobs(caller), Job.deleted_at.is_(None))
    jobs = {job.id: job for job in session.scalars(query)}
    return [jobs[each] for each in dict.fromkeys(job_ids) if each in jobs]


@dataclass(frozen=True)
class JobFilter:
    """What the jobs of a list have in common; None filters nothing. Times are aware, and both are exclusive.

    `metadata` are entries that each job has. `search` is a part of the prompt.
    """

    state: str | None = None
    model: str | None = None
    search: str | None = None
    project: str | None = None
    group: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None


NO_FILTER = JobFilter()


def list_jobs(
    session: Session,
    caller: Caller,
    wanted: JobFilter = NO_FILTER,
    *,
    after: str | None = None,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
) -> tuple[list[Job], bool]:
    """Return a page of the caller's jobs and whether more follow. `after` is the last id of the previous page.

    Raises AppError `invalid_request` for an `after` that is not one of the caller's own jobs, deleted ones included.
    """
    last = None
    if after is not None:
        last = session.scalar(select(Job).where(Job.id == after, *own_jobs(caller)))
        if last is None:
            raise AppError("invalid_request", "There is no video with this id to continue after.", field="after")
    query = jobs_query(caller, wanted, last=last, is_ascending=order == "asc")
    jobs = list(session.scalars(query.limit(limit + 1)))
    return jobs[:limit], len(jobs) > limit


def jobs_query(
    caller: Caller, wanted: JobFilter, *, last: Job | None = None, is_ascending: bool = False
) -> Select[Job]:
    """Return the query of the caller's jobs after `last`, by the time of their orders.

    It reads one index in its order: that of an account's jobs, or that of the jobs with one entry of metadata.
    """
    query = select(Job).where(*own_jobs(caller), Job.deleted_at.is_(None))
    columns: tuple[Any, Any] = (Job.created_at, Job.id)
    entries = [aliased(JobMetadata) for _ in wanted.metadata]
    for entry, (name, text) in zip(entries, wanted.metadata.items(), strict=True):
        query = query.join(entry, and_(entry.job_id == Job.id, entry.name == name, entry.value == text))
        query = query.where(entry.account_id == caller.account_id)
    if entries:
        columns = (entries[0].created_at, entries[0].job_id)
    for column, value in (
        (Job.state, wanted.state),
        (Job.project_id, wanted.project),
        (Job.group_id, wanted.group),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.model is not None:
        query = query.where(has_model(wanted.model))
    if wanted.search is not None:
        query = query.where(Job.prompt.icontains(wanted.search, autoescape=True))
    if wanted.since is not None:
        query = query.where(columns[0] > wanted.since)
    if wanted.until is not None:
        query = query.where(columns[0] < wanted.until)
    if last is not None:
        mark = tuple_(last.created_at, last.id)
        query = query.where(tuple_(*columns) > mark if is_ascending else tuple_(*columns) < mark)
    return query.order_by(*(column if is_ascending else column.desc() for column in columns))


def receipt_after(session: Session, caller: Caller, job_id: str) -> ReceiptRow:
    """Return the caller's receipt after which a page begins. Raises AppError `invalid_request` for any other id."""
    query = select(ReceiptRow).join(Job, Job.id == ReceiptRow.job_id).where(Job.id == job_id, *own_jobs(caller))
    receipt = session.scalar(query)
    if receipt is None:
        raise AppError("invalid_request", "There is no receipt for this video to continue after.", field="after")
    return receipt


def own_jobs(caller: Caller) -> list[ColumnElement[bool]]:
    """Return the conditions of the caller's own jobs: of its account, its side (test or live), and its project."""
    conditions: list[ColumnElement[bool]] = [Job.account_id == caller.account_id, Job.test == caller.test]
    if caller.project_id is not None:
        conditions.append(Job.project_id == caller.project_id)
    return conditions


def receipt_of(session: Session, job: Job) -> ReceiptRow | None:
    """Return the receipt of a job, or None while it has not ended."""
    return session.get(ReceiptRow, job.id)


def receipts_of(session: Session, jobs: Iterable[Job]) -> dict[str, ReceiptRow]:
    """Return the receipts of those of these jobs that have ended, by job id, with one query."""
    ended = [job.id for job in jobs if is_final(job.state)]
    rows = session.scalars(select(ReceiptRow).where(ReceiptRow.job_id.in_(ended))) if ended else ()
    return {row.job_id: row for row in rows}
