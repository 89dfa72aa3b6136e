"""Name a film, mark it as a favourite, and read the labels of films."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.errors import AppError
from app.jobs.label_tables import FilmLabel
from app.jobs.showcase import remove_choice
from app.jobs.tables import Job

NAME_MAX = 120


def labels_of(session: Session, job_ids: Iterable[str]) -> dict[str, FilmLabel]:
    """Return the labels of those of these films that have some, by job id."""
    rows = session.scalars(select(FilmLabel).where(FilmLabel.job_id.in_(list(job_ids))))
    return {row.job_id: row for row in rows}


def rename_film(session: Session, actor: Actor, job: Job, name: str) -> None:
    """Name a film; an empty name shows its prompt again. Raises AppError `invalid_request` for more than 120 signs.

    A film of the landing page is removed from it by another name, which no operator has chosen.
    """
    text = " ".join(name.split())
    if len(text) > NAME_MAX:
        raise AppError("invalid_request", f"At most {NAME_MAX} characters.", field="name")
    label = session.get(FilmLabel, job.id)
    if text != (label.name if label else ""):
        remove_choice(session, actor, job)
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
