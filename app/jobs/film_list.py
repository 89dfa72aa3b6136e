"""A page of an account's films by filters and order. One index holds all that is filtered: see `Job`'s table."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, or_, select, text, tuple_
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.errors import AppError
from app.jobs.find import own_jobs
from app.jobs.label_tables import FilmLabel
from app.jobs.model_life import has_model
from app.jobs.tables import Job

# One step of the index by model for each model, however many jobs there are.
_MODELS = text("""
    WITH RECURSIVE models AS (
        SELECT min(model) AS model FROM jobs
        UNION ALL
        SELECT (SELECT min(model) FROM jobs WHERE model > models.model) FROM models WHERE models.model IS NOT NULL
    )
    SELECT model FROM models WHERE model IS NOT NULL
""")


@dataclass(frozen=True)
class FilmFilter:
    """What the films of a page have in common; empty values filter nothing. Times are aware, `until` is exclusive."""

    search: str = ""
    state: str = ""
    project: str = ""
    model: str = ""
    ratio: str = ""
    since: datetime | None = None
    until: datetime | None = None
    is_favourite: bool = False
    sort: str = "newest"


def list_films(
    session: Session, caller: Caller, wanted: FilmFilter, *, after: str | None = None, limit: int
) -> tuple[list[Job], bool]:
    """Return a page of the caller's films and whether more follow. `after` is the last id of the previous page.

    Raises AppError `invalid_request` for an `after` that is not one of the caller's own films.
    """
    query = _filtered(select(Job).where(*own_jobs(caller), Job.deleted_at.is_(None)), caller, wanted)
    columns, is_oldest_first = (Job.created_at, Job.id), wanted.sort == "oldest"
    if after is not None:
        last = session.scalar(select(Job).where(Job.id == after, *own_jobs(caller)))
        if last is None:
            raise AppError("invalid_request", "There is no video with this id to continue after.", field="after")
        mark = tuple_(last.created_at, last.id)
        query = query.where(tuple_(*columns) > mark if is_oldest_first else tuple_(*columns) < mark)
    ordered = query.order_by(*(column if is_oldest_first else column.desc() for column in columns))
    jobs = list(session.scalars(ordered.limit(limit + 1)))
    return jobs[:limit], len(jobs) > limit


def ordered_models(session: Session) -> list[str]:
    """Return the ids of all models that were ever ordered on this service, sorted; some may no longer be sold."""
    return list(session.scalars(_MODELS))


def _filtered(query: Select[Job], caller: Caller, wanted: FilmFilter) -> Select[Job]:
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (Job.state, wanted.state),
            (Job.project_id, wanted.project),
            (Job.spec["ratio"].astext, wanted.ratio),
        )
        if value
    ]
    if wanted.model:
        conditions.append(has_model(wanted.model))
    if wanted.since is not None:
        conditions.append(Job.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(Job.created_at < wanted.until)
    # Labels are compared with the caller and not with the job: they are read once, and not once for each film.
    labelled = select(FilmLabel.job_id).where(FilmLabel.account_id == caller.account_id)
    if wanted.is_favourite:
        conditions.append(Job.id.in_(labelled.where(FilmLabel.is_favourite)))
    if wanted.search:
        name = FilmLabel.name.icontains(wanted.search, autoescape=True)
        conditions.append(or_(Job.prompt.icontains(wanted.search, autoescape=True), Job.id.in_(labelled.where(name))))
    return query.where(*conditions)
