"""Budgets of keys and projects: counters kept by conditional updates, so that parallel jobs cannot overshoot them.

The limit stands on the key (whole life) or the project (billing month of acceptance); a lowered limit binds new
holds only. Counters are kept without a limit too, so that one that is set later knows what was spent before it.
"""

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.tables import ApiKey, Project
from app.db import new_id
from app.errors import AppError
from app.wallet.balance import decimal_text
from app.wallet.tables import Budget, BudgetScope, Hold
from pricing.money import require_integer


def hold_budgets(session: Session, hold: Hold, currency: str) -> None:
    """Set a hold's amount aside in the budgets of its key and its project, in this order.

    Raises AppError `price_above_cap` above the key's cap per job; `budget_exceeded`, saying whose and what is left.
    """
    for scope, subject_id, month in _subjects(session, hold):
        limit = _limit(session, hold, scope, currency)
        if not _reserve(session, hold, scope, subject_id, month, limit):
            _refuse(session, hold, scope, subject_id, month, limit or 0, currency)


def settle_budgets(session: Session, hold: Hold, spent: int) -> None:
    """Remove a resolved hold from its budgets and count the captured amount."""
    require_integer(spent, "spent")
    for scope, subject_id, month in _subjects(session, hold):
        _move(session, scope, subject_id, month, held_change=-hold.amount, spent_change=spent)


def refund_budgets(session: Session, hold: Hold, amount: int) -> None:
    """Give a refund back to the budgets that its job was counted in."""
    require_integer(amount)
    for scope, subject_id, month in _subjects(session, hold):
        _move(session, scope, subject_id, month, held_change=0, spent_change=-amount)


def _subjects(session: Session, hold: Hold) -> list[tuple[BudgetScope, str, str]]:
    # Key before project before wallet: one order of locks for every job.
    subjects = []
    if hold.key_id is not None:
        # A rotated key goes on with the budget of the key that it came from.
        lineage = session.scalars(select(ApiKey.lineage).where(ApiKey.id == hold.key_id)).one()
        subjects.append((BudgetScope.KEY, lineage, ""))
    if hold.project_id is not None:
        subjects.append((BudgetScope.PROJECT, hold.project_id, hold.month))
    return subjects


def _limit(session: Session, hold: Hold, scope: BudgetScope, currency: str) -> int | None:
    if scope is BudgetScope.PROJECT:
        return session.scalar(select(Project.budget_month).where(Project.id == hold.project_id))
    total, cap = session.execute(select(ApiKey.budget_total, ApiKey.job_cap).where(ApiKey.id == hold.key_id)).one()
    if cap is not None and hold.amount > cap:
        raise AppError(
            "price_above_cap",
            "The price is above what one job of this key may cost.",
            price=decimal_text(hold.amount, currency),
            cap=decimal_text(cap, currency),
            currency=currency,
        )
    return total


def _reserve(session: Session, hold: Hold, scope: BudgetScope, subject_id: str, month: str, limit: int | None) -> bool:
    if limit is not None and hold.amount > limit:
        return False
    fresh = insert(Budget).values(
        id=new_id("budget"),
        account_id=hold.account_id,
        scope=str(scope),
        subject_id=subject_id,
        month=month,
        held=hold.amount,
        spent=0,
    )
    # What costs nothing fits, also where a lowered limit lies under what was spent.
    fits = None if limit is None or not hold.amount else Budget.spent + Budget.held + hold.amount <= limit
    upsert = fresh.on_conflict_do_update(
        index_elements=["scope", "subject_id", "month"], set_={"held": Budget.held + hold.amount}, where=fits
    )
    return session.execute(upsert.returning(Budget.id)).one_or_none() is not None


def _move(
    session: Session, scope: BudgetScope, subject_id: str, month: str, *, held_change: int, spent_change: int
) -> None:
    session.execute(
        update(Budget)
        .where(Budget.scope == str(scope), Budget.subject_id == subject_id, Budget.month == month)
        .values(held=Budget.held + held_change, spent=Budget.spent + spent_change)
        .execution_options(synchronize_session=False)
    )


def _refuse(
    session: Session, hold: Hold, scope: BudgetScope, subject_id: str, month: str, limit: int, currency: str
) -> None:
    used = session.execute(
        select(Budget.held, Budget.spent).where(
            Budget.scope == str(scope), Budget.subject_id == subject_id, Budget.month == month
        )
    ).one_or_none()
    held_minor, spent_minor = (0, 0) if used is None else used
    raise AppError(
        "budget_exceeded",
        f"The budget of the {scope} cannot hold the price of this job.",
        budget=str(scope),
        id=subject_id,
        month=month or None,
        price=decimal_text(hold.amount, currency),
        limit=decimal_text(limit, currency),
        held=decimal_text(held_minor, currency),
        spent=decimal_text(spent_minor, currency),
        currency=currency,
    )
