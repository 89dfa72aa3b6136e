"""Carry an erasure out: close the door in one transaction, then step by step, each of which may be repeated."""

from collections.abc import Iterator

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts.accounts import suspend
from app.accounts.members import remove_member
from app.accounts.tables import Account, ApiKey, Member
from app.assets.tables import Asset, AssetState
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import new_id, transaction
from app.erasure.account_steps import ACCOUNT_STEPS, Action
from app.erasure.person_steps import MEMBER_STEPS, REPORT_STEPS, same_person
from app.erasure.plan import UNFINISHED_MAX, ErasurePlan, make_plan
from app.erasure.tables import Erasure, ErasureKind
from app.errors import AppError
from app.jobs.open_quotes import expire_quotes_of
from app.jobs.tables import Job, Quote

STEPS: dict[ErasureKind, dict[str, Action]] = {
    ErasureKind.ACCOUNT: ACCOUNT_STEPS,
    ErasureKind.MEMBER: MEMBER_STEPS,
    ErasureKind.REPORT: REPORT_STEPS,
}
# The reason of a suspension by an erasure.
ERASED_REASON = "erased"


def start_erasure(session: Session, actor: Actor, kind: ErasureKind, subject_id: str) -> Erasure:
    """Start an erasure, or return the one that was started and is not finished.

    An account is suspended and its keys end; a member is removed. Raises AppError `not_found`; `conflict` while films
    are made or money is held, and for the last owner of an account; `forbidden` for the actor's own person or account.
    """
    if kind is ErasureKind.ACCOUNT:
        # The same lock as an order's: after it, every order is in the plan or is refused.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"submit:{subject_id}"))))
    plan = make_plan(session, kind, subject_id)
    # The rows of a person who was a member before are erased together, so all of them have the same rules.
    members = sorted(same_person(session, subject_id)[0]) if kind is ErasureKind.MEMBER else []
    _refuse_own(session, actor, plan, members)
    open_one = session.scalar(
        select(Erasure).where(Erasure.kind == kind, Erasure.subject_id == subject_id, Erasure.finished_at.is_(None))
    )
    if kind is ErasureKind.ACCOUNT:
        _close_account(session, plan)
    for member_id in members:
        _remove_member(session, member_id)
    if open_one is not None:
        return open_one
    erasure = Erasure(
        id=new_id("erasure"),
        kind=kind,
        subject_id=subject_id,
        started_by=actor.person,
        started_at=now(session),
        steps={},
    )
    session.add(erasure)
    session.flush()
    rows = {line.what: line.rows for line in plan.goes}
    record_action(session, actor, "erasure.started", subject_id, erasure=erasure.id, rows=rows, left=list(plan.money))
    return erasure


def run_erasure(erasure_id: str, actor: Actor) -> Iterator[tuple[str, int]]:
    """Do the steps that are not done, and yield the name of each with the rows of each batch. No session is held.

    After a crash it is called again. Raises StorageError while the store does not answer.
    """
    with transaction() as session:
        erasure = session.get_one(Erasure, erasure_id)
        kind, subject_id, steps = ErasureKind(erasure.kind), erasure.subject_id, dict(erasure.steps)
    for name, action in STEPS[kind].items():
        if name in steps:
            continue
        steps[name] = 0
        for rows in action(subject_id, erasure_id):
            steps[name] += rows
            yield name, rows
        with transaction() as session:
            session.execute(update(Erasure).where(Erasure.id == erasure_id).values(steps=steps))
    with transaction() as session:
        erasure = session.get_one(Erasure, erasure_id, with_for_update=True)
        late = _late_row(session, subject_id) if kind is ErasureKind.ACCOUNT else None
        if late is not None:
            erasure.steps = {}
    if late is not None:
        message = (
            "An order, a quote or a file arrived while the account was closed. "
            "Run the erasure again when no film of the account is being made."
        )
        raise AppError("conflict", message, id=late)
    with transaction() as session:
        erasure = session.get_one(Erasure, erasure_id, with_for_update=True)
        if erasure.finished_at is None:
            erasure.finished_at = now(session)
            record_action(session, actor, "erasure.finished", subject_id, erasure=erasure_id, rows=steps)


def _late_row(session: Session, account_id: str) -> str | None:
    """Return a film, quote or file of an erased account that came in later, by a request that had begun before.

    The lock waits for every open transaction that has written a row of the account, or is about to
    (`require_active_now`), and for no other lock.
    """
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update())
    for late in (
        select(Job.id).where(Job.account_id == account_id, Job.spec_hash != ""),
        select(Quote.id).where(Quote.account_id == account_id, Quote.spec_hash != ""),
        select(Asset.id).where(Asset.account_id == account_id, Asset.state != AssetState.DELETED),
    ):
        row_id = session.scalar(late.limit(1))
        if row_id is not None:
            return str(row_id)
    return None


def list_erasures(session: Session) -> list[Erasure]:
    """Return all erasures, the oldest first: the list that is kept outside of the backups."""
    return list(session.scalars(select(Erasure).order_by(Erasure.started_at, Erasure.id)))


def _refuse_own(session: Session, actor: Actor, plan: ErasurePlan, members: list[str]) -> None:
    member = session.get(Member, actor.person)
    own = {actor.person, *([member.account_id] if member is not None else [])}
    if plan.subject_id in own or actor.person in members:
        raise AppError("forbidden", "Another operator erases your own account or person.", id=plan.subject_id)


def _close_account(session: Session, plan: ErasurePlan) -> None:
    """Suspend an account and end its keys and quotes, if nothing of it is being made."""
    if plan.unfinished or plan.open_holds:
        message = (
            f"{len(plan.unfinished)} films are not finished, and {plan.open_holds} holds are open. "
            "Cancel the films, or wait for their end, and erase again."
        )
        raise AppError("conflict", message, videos=list(plan.unfinished[:UNFINISHED_MAX]))
    suspend(session, plan.subject_id, ERASED_REASON)
    moment = now(session)
    expire_quotes_of(session, plan.subject_id)
    session.execute(
        update(ApiKey)
        .where(ApiKey.account_id == plan.subject_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=moment)
    )


def _remove_member(session: Session, member_id: str) -> None:
    member = session.get_one(Member, member_id)
    if member.removed_at is None:
        remove_member(session, member.account_id, member_id)
