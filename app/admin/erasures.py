"""Operators' erasures of accounts, members and senders of reports."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.admin.accounts import suspend_account
from app.admin.jobs import cancel_job
from app.audit_log.actor import Actor
from app.db import transaction
from app.erasure import erase
from app.erasure.plan import ErasurePlan, make_plan
from app.erasure.tables import Erasure, ErasureKind
from app.errors import AppError
from app.jobs.states import JobState
from app.jobs.tables import Job
from app.roles import Role, require_role


def plan_erasure(session: Session, actor: Actor, kind: ErasureKind, subject_id: str) -> ErasurePlan:
    """Return what an erasure would remove, and what stays. Raises AppError `forbidden`, `not_found`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    return make_plan(session, kind, subject_id)


def erase_subject(actor: Actor, kind: ErasureKind, subject_id: str) -> Iterator[tuple[str, int]]:
    """Erase the personal values of an account, a member or the sender of a report; it cannot be taken back.

    Yields the name of each step with the rows of each batch. Call it without a transaction; after a crash, call it
    again. Raises AppError `forbidden` without the role operator, and as `start_erasure` and `run_erasure` do.
    """
    require_role(actor, Role.OPERATOR)
    with transaction() as session:
        erasure_id = erase.start_erasure(session, actor, kind, subject_id).id
    yield from erase.run_erasure(erasure_id, actor)


def cancel_account_films(actor: Actor, account_id: str) -> int:
    """Suspend an account and cancel its films that are not finished, before an erasure. Returns how many there were.

    They end as other cancelled films do: what was rendered is delivered and charged. Raises AppError `forbidden`,
    `not_found`.
    """
    require_role(actor, Role.OPERATOR)
    with transaction() as session:
        suspend_account(session, actor, account_id, erase.ERASED_REASON)
        unfinished = Job.state.in_((JobState.QUEUED, JobState.IN_PROGRESS))
        ids = session.scalars(select(Job.id).where(Job.account_id == account_id, unfinished).order_by(Job.id)).all()
    for job_id in ids:
        try:
            with transaction() as session:
                cancel_job(session, actor, job_id)
        except AppError as error:
            # It has ended meanwhile, or its last step is too far to be stopped.
            if error.code not in {"already_final", "too_late"}:
                raise
    return len(ids)


def list_erasures(session: Session, actor: Actor) -> list[Erasure]:
    """Return all erasures, the oldest first. Raises AppError `forbidden`."""
    require_role(actor, Role.OPERATOR)
    return erase.list_erasures(session)
