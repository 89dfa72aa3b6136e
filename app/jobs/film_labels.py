"""Name a film, mark it as a favourite, and read the labels of films."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import AppError
from app.jobs.label_tables import FilmLabel
from app.jobs.tables import Job

NAME_MAX = 120


def labels_of(session: Session, job_ids: Iterable[str]) -> dict[str, FilmLabel]:
    """Return the labels of those of these films that have some, by job id."""
    rows = session.scalars(select(FilmLabel).where(FilmLabel.job_id.in_(list(job_ids))))
    return {row.job_id: row for row in rows}


def rename_film(session: Session, job: Job, name: str) -> None:
    """Name a film; an empty name shows its prompt again. Raises AppError `invalid_request` for more than 120 signs."""
    text = " ".join(name.split())
    if len(text) > NAME_MAX:
        raise AppError("invalid_request", f"At most {NAME_MAX} characters.", field="name")
    change_label(session, job, name=text)


def mark_favourite(session: Session, job: Job, is_favourite: bool) -> None:
    """Mark a film as a favourite of its account, or no longer."""
    change_label(session, job, is_favourite=is_favourite)


def change_label(session: Session, job: Job, **values: Any) -> None:
    """Write some columns of a film's labels."""
    row = insert(FilmLabel).values(job_id=job.id, account_id=job.account_id, **values)
    session.execute(row.on_conflict_do_update(index_elements=[FilmLabel.job_id], set_=values))
    label = session.get(FilmLabel, job.id)
    if label is not None:
        session.refresh(label)
