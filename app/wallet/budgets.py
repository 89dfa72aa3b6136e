"""Budgets of keys and projects: counters kept by conditional updates, so that parallel jobs cannot overshoot them.

The limit stands on the key (whole life) or the project (billing month of acceptance); a lowered limit binds new
holds only. Counters are kept without a limit too, so that one that is set later knows what was spent before it.
Holds move them in hold.sql, and the ends of holds in resolve_hold.sql.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.accounts.tables import ApiKey
from app.errors import AppError
from app.wallet.balance import decimal_text
from app.wallet.tables import Budget, BudgetScope, Hold
from pricing.money import require_integer


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


def _move(
    session: Session, scope: BudgetScope, subject_id: str, month: str, *, held_change: int, spent_change: int
) -> None:
    session.execute(
        update(Budget)
        .where(Budget.scope == str(scope), Budget.subject_id == subject_id, Budget.month == month)
        .values(held=Budget.held + held_change, spent=Budget.spent + spent_change)
        .execution_options(synchronize_session=False)
    )


def above_cap(amount: int, cap: int, currency: str) -> AppError:
    """Return the refusal of a job that costs more than one job of its key may cost."""
    return AppError(
        "price_above_cap",
        "The price is above what one job of this key may cost.",
        price=decimal_text(amount, currency),
        cap=decimal_text(cap, currency),
        currency=currency,
    )


def budget_exceeded(
    session: Session, scope: BudgetScope, subject_id: str, month: str, *, amount: int, limit: int, currency: str
) -> AppError:
    """Return the refusal of a hold for which a budget has too little left, saying whose and what is left."""
    used = session.execute(
        select(Budget.held, Budget.spent).where(
            Budget.scope == str(scope), Budget.subject_id == subject_id, Budget.month == month
        )
    ).one_or_none()
    held_minor, spent_minor = (0, 0) if used is None else used
    return AppError(
        "budget_exceeded",
        f"The budget of the {scope} cannot hold the price of this job.",
        budget=str(scope),
        id=subject_id,
        month=month or None,
        price=decimal_text(amount, currency),
        limit=decimal_text(limit, currency),
        held=decimal_text(held_minor, currency),
        spent=decimal_text(spent_minor, currency),
        currency=currency,
    )
