"""Slow down, then stop, whoever repeats orders that are refused.

Counted is by the credential: the keys of each project by themselves, all others and the pages together, test and live
apart. So one project, or a test key, stops nobody else of its account. The account as a whole is stopped where its
parts together have three times what one of them may have, so that new projects are no way around it.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.db import after_commit, new_id
from app.errors import AppError, not_found
from app.metrics import ORDERS_RESTRAINED
from app.moderation.policy import moderation_policy
from app.moderation.refusal_tables import OrderStop, RefusalCount
from app.roles import Role, require_role

ACCOUNT = "*"
# Of an account as a whole, in multiples of what one of its parts may have.
PARTS = 3
_POLICY = Actor("policy", "moderation", frozenset())


@dataclass(frozen=True)
class Restraint:
    """What holds for the orders of a credential now."""

    is_slowed: bool = False
    is_stopped: bool = False


def scope_of(project_id: str | None) -> str:
    """Return the part of an account that a credential belongs to, by the project of its key."""
    return project_id or ""


def count_refusal(session: Session, account_id: str, *, scope: str, test: bool) -> None:
    """Count a refused order, and stop further ones where there were too many in a day. At once by several: each counts.

    The audit log is locked last, so nothing else may be locked after this.
    """
    policy, moment = moderation_policy().repeaters, now(session)
    row = insert(RefusalCount).values(account_id=account_id, scope=scope, test=test, day=_day(moment), refusals=1)
    counted = row.on_conflict_do_update(
        index_elements=["account_id", "scope", "test", "day"], set_={"refusals": RefusalCount.refusals + 1}
    ).returning(RefusalCount.refusals)
    count = session.scalars(counted).one()
    if count == policy.slow_after:
        _measure(session, "slowed", test=test)
    total = _total(session, account_id, _day(moment), test=test)
    # Each part adds to the total whether or not it is stopped itself: else many new projects have no limit.
    due = {scope: (count, policy.stop_after), ACCOUNT: (total, PARTS * policy.stop_after)}
    reached = {part: refusals for part, (refusals, limit) in due.items() if refusals >= limit}
    stopped = [part for part in reached if _stop(session, account_id, part, test=test, refusals=reached[part])]
    for part in stopped:
        record_action(session, _POLICY, "orders.stopped", account_id, scope=part, test=test, refusals=reached[part])
        _measure(session, "stopped", test=test)


def restraint_of(session: Session, account_id: str, *, scope: str, test: bool) -> Restraint:
    """Return whether orders of a credential are slowed or stopped."""
    mine = (RefusalCount.account_id == account_id, RefusalCount.scope == scope, RefusalCount.test == test)
    count = select(RefusalCount.refusals).where(*mine, RefusalCount.day == _day(now(session))).scalar_subquery()
    stop = (
        select(OrderStop.id)
        .where(OrderStop.account_id == account_id, OrderStop.scope.in_((scope, ACCOUNT)))
        .where(OrderStop.test == test, OrderStop.allowed_at.is_(None))
    )
    refusals, is_stopped = session.execute(select(func.coalesce(count, 0), stop.exists())).one()
    return Restraint(refusals >= moderation_policy().repeaters.slow_after, is_stopped)


def stopped_error() -> AppError:
    """Return the error of an order that is not taken because too many before it were refused."""
    message = "Too many orders were refused for what they describe or show. Ask the operator to allow orders again."
    return AppError("orders_stopped", message)


def list_stops(session: Session, *, account_id: str | None = None, limit: int) -> list[OrderStop]:
    """Return whose orders are stopped now, the newest first."""
    query = select(OrderStop).where(OrderStop.allowed_at.is_(None))
    if account_id is not None:
        query = query.where(OrderStop.account_id == account_id)
    return list(session.scalars(query.order_by(OrderStop.stopped_at.desc(), OrderStop.id).limit(limit)))


def allow_orders(session: Session, actor: Actor, stop_id: str) -> OrderStop:
    """Let orders be made again; what was refused until now counts no more. Writes the audit log.

    Raises AppError `forbidden`, `not_found`, and `conflict` for a stop that has ended.
    """
    require_role(actor, Role.OPERATOR)
    stop = session.get(OrderStop, stop_id)
    if stop is None:
        raise not_found("stop", stop_id)
    # The counts before the stop, as a refusal that is counted locks them.
    mine = [RefusalCount.account_id == stop.account_id, RefusalCount.test == stop.test]
    if stop.scope != ACCOUNT:
        mine.append(RefusalCount.scope == stop.scope)
    ordered = select(RefusalCount.day).where(*mine).order_by(RefusalCount.scope, RefusalCount.day)
    session.execute(ordered.with_for_update())
    session.refresh(stop, with_for_update=True)
    if stop.allowed_at is not None:
        raise AppError("conflict", "Orders were allowed again already.", id=stop_id)
    session.execute(delete(RefusalCount).where(*mine))
    stop.allowed_at, stop.allowed_by = now(session), actor.person
    session.flush()
    record_action(session, actor, "orders.allowed", stop.account_id, scope=stop.scope, test=stop.test)
    return stop


def forget_refusals(session: Session, *, limit: int) -> int:
    """Delete some counts of days that are over. Returns how many."""
    old = select(RefusalCount).where(RefusalCount.day < _day(now(session))).limit(limit)
    rows = session.scalars(old.with_for_update(skip_locked=True)).all()
    for row in rows:
        session.delete(row)
    return len(rows)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _total(session: Session, account_id: str, day: date, *, test: bool) -> int:
    """Return the refusals of an account on a day; of each part no more than those for which it is stopped."""
    part = func.least(RefusalCount.refusals, moderation_policy().repeaters.stop_after)
    mine = (RefusalCount.account_id == account_id, RefusalCount.test == test, RefusalCount.day == day)
    return session.scalar(select(func.coalesce(func.sum(part), 0)).where(*mine)) or 0


def _stop(session: Session, account_id: str, scope: str, *, test: bool, refusals: int) -> bool:
    """Stop orders of a part, or of the account; return whether they were not stopped before."""
    values = {"account_id": account_id, "scope": scope, "test": test, "refusals": refusals, "stopped_at": now(session)}
    row = insert(OrderStop).values(id=new_id("stop"), **values).on_conflict_do_nothing().returning(OrderStop.id)
    return session.scalars(row).one_or_none() is not None


def _measure(session: Session, kind: str, *, test: bool) -> None:
    after_commit(session, ORDERS_RESTRAINED.labels(kind, test).inc)
