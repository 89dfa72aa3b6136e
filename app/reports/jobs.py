"""Jobs of all accounts for operators: search, and the units, takes, events and transfers of one."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.errors import not_found
from app.events.tables import Event
from app.jobs.queue_tables import Take, Unit
from app.jobs.states import JobState
from app.jobs.tables import Job
from app.reports.accounts import matches_account
from app.reports.capped_count import capped_count
from app.wallet.tables import Transfer, TransferKind

# A search reads the films of so many accounts at most.
ACCOUNT_MATCHES_MAX = 20
# The beginning of an id has its prefix and at least four random letters, which one film in a million shares.
ID_PREFIX_MIN = len("video_") + 4
ID_MATCHES_MAX = 200


@dataclass(frozen=True)
class UnitRow:
    """One unit of a job: a segment or the finish."""

    kind: str
    shot: int
    position: int
    state: str
    pool: str
    frames: int
    takes_lost: int
    takes_error: int


@dataclass(frozen=True)
class TakeRow:
    """One take of a job's units, with its worker and its end."""

    id: str
    kind: str
    state: str
    worker_id: str
    error_code: str | None
    error_message: str | None
    started_at: datetime
    ended_at: datetime | None
    step: int
    steps: int
    gpu_seconds: Decimal


@dataclass(frozen=True)
class EventRow:
    """One event of a job."""

    id: str
    type: str
    occurred_at: datetime


def count_jobs(session: Session) -> dict[str, str]:
    """Return the number of jobs by state, as text: large numbers are not counted to their end."""
    return {str(state): capped_count(session, Job.created_at, Job.state == state) for state in JobState}


def search_jobs(
    session: Session,
    search: str = "",
    *,
    state: str | None = None,
    ordered_before: datetime | None = None,
    after: str | None = None,
    limit: int,
) -> tuple[list[tuple[Job, str]], bool]:
    """Return a page of jobs with their account's name, newest first, and whether more follow.

    `search` is the id of a film or its beginning, or the id of an account, or a part of its name or of a member's
    e-mail. Prompts are not searched: that would read the films of all time. An unknown `after` starts at the newest.
    """
    conditions = [] if state is None else [Job.state == state]
    if ordered_before is not None:
        conditions.append(Job.created_at < ordered_before)
    last = session.get(Job, after) if after else None
    if last is not None:
        conditions.append(tuple_(Job.created_at, Job.id) < (last.created_at, last.id))
    query = select(Job, Account.name).join(Account, Account.id == Job.account_id)
    if search.strip():
        job_ids = _find_jobs(session, search.strip(), conditions, limit + 1)
        query = query.where(Job.id.in_(job_ids))
    else:
        query = query.where(*conditions)
    rows = session.execute(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)).all()
    return [(job, name) for job, name in rows[:limit]], len(rows) > limit


def _find_jobs(session: Session, search: str, conditions: list[ColumnElement[bool]], limit: int) -> list[str]:
    """Return the ids of the newest jobs that match a search: by id, and of each account that matches, by its index."""
    exact = select(Job.id).where(Job.id == search, *conditions)
    if session.scalar(exact) is not None:
        return [search]
    newest = select(Job.id).where(*conditions).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    queries = []
    if len(search) >= ID_PREFIX_MIN:
        by_id = select(Job.id).where(Job.id.startswith(search, autoescape=True), *conditions)
        queries.append(by_id.limit(ID_MATCHES_MAX))
    accounts = select(Account.id).where(matches_account(search)).order_by(Account.created_at, Account.id)
    for account_id in session.scalars(accounts.limit(ACCOUNT_MATCHES_MAX)):
        queries.append(newest.where(Job.account_id == account_id))
    return [job_id for query in queries for job_id in session.scalars(query)]


def find_any_job(session: Session, job_id: str) -> Job:
    """Return a job of any account. Raises AppError `not_found`."""
    job = session.get(Job, job_id)
    if job is None:
        raise not_found("video", job_id)
    return job


def units_of(session: Session, job_id: str) -> list[UnitRow]:
    """Return the units of a job: segments in film order, then the finish."""
    order = (Unit.kind.desc(), Unit.shot, Unit.position)
    return [
        UnitRow(
            each.kind,
            each.shot,
            each.position,
            each.state,
            each.pool,
            each.frames,
            each.takes_lost,
            each.takes_error,
        )
        for each in session.scalars(select(Unit).where(Unit.job_id == job_id).order_by(*order))
    ]


def takes_of(session: Session, job_id: str) -> list[TakeRow]:
    """Return the takes of a job, oldest first."""
    return [
        TakeRow(
            id=each.id,
            kind=each.kind,
            state=each.state,
            worker_id=each.worker_id,
            error_code=each.error_code,
            error_message=each.error_message,
            started_at=each.started_at,
            ended_at=each.ended_at,
            step=each.step,
            steps=each.steps,
            gpu_seconds=each.gpu_seconds,
        )
        for each in session.scalars(select(Take).where(Take.job_id == job_id).order_by(Take.fence))
    ]


def events_of(session: Session, job_id: str) -> list[EventRow]:
    """Return the events of a job, oldest first."""
    events = session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.sequence))
    return [EventRow(each.id, each.type, each.occurred_at) for each in events]


def transfers_of(session: Session, job_id: str) -> list[Transfer]:
    """Return the transfers of a job, oldest first."""
    query = select(Transfer).where(Transfer.job_id == job_id).order_by(Transfer.at, Transfer.id)
    return list(session.scalars(query))


def refundable_amount(session: Session, job_id: str) -> int:
    """Return what can still be refunded of a job's charge, in minor units."""
    transfers = transfers_of(session, job_id)
    charged, refunded = (
        sum(each.amount for each in transfers if each.kind == kind)
        for kind in (TransferKind.CAPTURE, TransferKind.REFUND)
    )
    return charged - refunded
