"""Memberships are periods, from their first instant up to, and not including, their end; beyond them is `free`."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.tables import MembershipPeriod
from app.clock import now
from app.db import new_id
from app.errors import AppError

FREE = "free"


def membership_at(session: Session, account_id: str, at: datetime) -> str:
    """Return the name of the membership that the account holds at an instant; `free` when none covers it."""
    period = _covering(session, account_id, at)
    return FREE if period is None else period.name


def memberships_at(session: Session, account_ids: Collection[str], at: datetime) -> dict[str, str]:
    """Return the name of the membership of each of these accounts at an instant, in one statement."""
    covering = select(MembershipPeriod.account_id, MembershipPeriod.name).where(*_covers(at))
    rows = session.execute(covering.where(MembershipPeriod.account_id.in_(account_ids)))
    held = {row.account_id: row.name for row in rows}
    return {account_id: held.get(account_id, FREE) for account_id in account_ids}


def count_holders(session: Session, names: Collection[str], at: datetime) -> dict[str, int]:
    """Return how many accounts hold each of these memberships at an instant or will hold it; none: no entry."""
    is_open = or_(MembershipPeriod.ends_at.is_(None), MembershipPeriod.ends_at > at)
    accounts = func.count(MembershipPeriod.account_id.distinct())
    query = select(MembershipPeriod.name, accounts).where(MembershipPeriod.name.in_(names), is_open)
    return dict(session.execute(query.group_by(MembershipPeriod.name)).all())


def list_periods(session: Session, account_id: str) -> list[MembershipPeriod]:
    """Return all periods of an account, oldest first."""
    query = select(MembershipPeriod).where(MembershipPeriod.account_id == account_id)
    return list(session.scalars(query.order_by(MembershipPeriod.starts_at)))


def grant_membership(
    session: Session, account_id: str, name: str, *, starts_at: datetime, ends_at: datetime | None = None
) -> MembershipPeriod:
    """Give an account a membership for a period, or until somebody ends it.

    Whether the price book knows the name is for the caller to check: accounts know no books.

    Raises AppError `invalid_request` if it ends before it starts; `conflict` if it overlaps another period.
    """
    if ends_at is not None and ends_at <= starts_at:
        raise AppError("invalid_request", "A membership ends after it starts.", field="ends_at")
    period = MembershipPeriod(
        id=new_id("member_period"),
        account_id=account_id,
        name=name,
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=now(session),
    )
    # The database's exclusion constraint decides, so that two admins at once cannot both be right.
    try:
        with session.begin_nested():
            session.add(period)
    except IntegrityError as error:
        if "ex_membership_periods_overlap" not in str(error.orig):
            raise
        raise AppError(
            "conflict", "The account holds another membership in this period.", field="starts_at", name=name
        ) from None
    return period


def end_membership(session: Session, account_id: str, at: datetime) -> MembershipPeriod | None:
    """End the membership that covers an instant at that instant; return it, or None when there was none.

    Raises AppError `invalid_request` for an instant in the past: jobs have been charged by it.
    """
    if at < now(session):
        raise AppError("invalid_request", "A membership cannot be ended in the past.", field="at")
    period = _covering(session, account_id, at)
    if period is None:
        return None
    if period.starts_at == at:
        session.delete(period)
    else:
        period.ends_at = at
    session.flush()
    return period


def change_membership(
    session: Session, account_id: str, name: str, *, at: datetime, ends_at: datetime | None = None
) -> MembershipPeriod:
    """End what the account holds at an instant and give it another membership from that same instant on.

    Raises AppError `invalid_request`, `conflict` as `end_membership` and `grant_membership` do.
    """
    end_membership(session, account_id, at)
    return grant_membership(session, account_id, name, starts_at=at, ends_at=ends_at)


def _covering(session: Session, account_id: str, at: datetime) -> MembershipPeriod | None:
    return session.scalar(select(MembershipPeriod).where(MembershipPeriod.account_id == account_id, *_covers(at)))


def _covers(at: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        MembershipPeriod.starts_at <= at,
        or_(MembershipPeriod.ends_at.is_(None), MembershipPeriod.ends_at > at),
    )
