"""Intake pauses: no new jobs for a model, an account, one model of one account, or at all. Accepted jobs continue."""

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.jobs.tables import IntakePause
from app.roles import Role, require_role


def pause_intake(
    session: Session, actor: Actor, *, model: str | None = None, account_id: str | None = None, reason: str
) -> IntakePause:
    """Stop accepting new jobs, for a model, an account, both together, or (neither named) altogether.

    The caller checks that the catalogue has the model. Raises AppError `forbidden`, `not_found`, and `conflict` when
    this is paused already.
    """
    require_role(actor, Role.OPERATOR)
    if account_id is not None:
        get_account(session, account_id)
    pause = session.scalars(
        insert(IntakePause)
        .values(
            id=new_id("pause"),
            model=model,
            account_id=account_id,
            reason=reason,
            paused_by=actor.person,
            paused_at=now(session),
        )
        .on_conflict_do_nothing()
        .returning(IntakePause)
    ).one_or_none()
    if pause is None:
        raise AppError("conflict", "Intake is paused for this already.", model=model, account=account_id)
    record_action(session, actor, "intake.paused", pause.id, model=model, account=account_id, reason=reason)
    return pause


def resume_intake(session: Session, actor: Actor, pause_id: str) -> IntakePause:
    """Accept new jobs again. Raises AppError `forbidden`, and `not_found`, also for a pause that has ended."""
    require_role(actor, Role.OPERATOR)
    pause = session.scalars(
        update(IntakePause)
        .where(IntakePause.id == pause_id, IntakePause.resumed_at.is_(None))
        .values(resumed_at=now(session), resumed_by=actor.person)
        .returning(IntakePause)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if pause is None:
        raise not_found("intake pause", pause_id)
    record_action(session, actor, "intake.resumed", pause.id, model=pause.model, account=pause.account_id)
    return pause


def list_pauses(session: Session) -> list[IntakePause]:
    """Return the current pauses, oldest first."""
    query = select(IntakePause).where(IntakePause.resumed_at.is_(None))
    return list(session.scalars(query.order_by(IntakePause.paused_at)))


def check_intake(session: Session, *, account_id: str, model: str) -> None:
    """Refuse a new job while a pause applies. Raises AppError `intake_paused` with the pause's reason and model."""
    pause = session.scalar(
        select(IntakePause)
        .where(
            IntakePause.resumed_at.is_(None),
            IntakePause.model.is_(None) | (IntakePause.model == model),
            IntakePause.account_id.is_(None) | (IntakePause.account_id == account_id),
        )
        .order_by(IntakePause.paused_at)
        .limit(1)
    )
    if pause is not None:
        raise AppError(
            "intake_paused",
            f"New jobs are paused: {pause.reason}",
            reason=pause.reason,
            model=pause.model,
            since=pause.paused_at.isoformat(),
        )
