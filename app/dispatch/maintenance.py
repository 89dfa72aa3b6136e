"""Count the scheduler's repairs and deletions: the totals that metrics and the console show."""

import logging

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.tables import SweepCount

log = logging.getLogger(__name__)


def count_repairs(session: Session, repair: str, count: int) -> None:
    """Add to the total of a repair."""
    row = insert(SweepCount).values(repair=repair, count=count, last_at=now(session))
    session.execute(
        row.on_conflict_do_update(
            index_elements=["repair"], set_={"count": SweepCount.count + count, "last_at": row.excluded.last_at}
        )
    )
    log.info("Repaired %s × %s", repair, count)
