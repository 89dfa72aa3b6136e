"""Counts beside the tabs of a list: exact while they are small, because nobody reads history to count it."""

from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

COUNT_MAX = 1000


def capped_count(session: Session, created_at: Any, condition: ColumnElement[bool]) -> str:
    """Return how many rows meet a condition, such as `12`, or `1,000+` for more than COUNT_MAX.

    An index has the rows of the condition in the order of `created_at`, so that the planner need not sort them.
    """
    rows = select(created_at).where(condition).order_by(created_at).limit(COUNT_MAX + 1).subquery()
    count = session.scalar(select(func.count()).select_from(rows)) or 0
    return f"{COUNT_MAX:,}+" if count > COUNT_MAX else str(count)
