"""A snapshot of what waits, refreshed by the scheduler about once a second: forecasts read it and never the units.

So a poll, a list and an order cost the same however long the queue is. A forecast is as old as the snapshot.
"""

import time
from collections.abc import Callable
from importlib.resources import files

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.clock import now

REFRESH_SQL = text(files("app.dispatch").joinpath("queue_snapshot.sql").read_text())

PERIOD_SECONDS = 1.0
# A deep queue takes longer to add up; between two snapshots the scheduler does ten times as long without it.
BUSY_SHARE_MAX = 1 / 11
# Queues that have not changed and are read again in one snapshot, because throughput has.
AGED_MAX = 50


def refresh_queue_snapshot(session: Session) -> None:
    """Read the queues that have changed, and some that were read long ago, and write what waits in them."""
    session.execute(REFRESH_SQL, {"now": now(session), "aged": AGED_MAX})


class SnapshotTimer:
    """When the next snapshot is due: PERIOD_SECONDS after the last one began, or later where that one took long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock()

    def run(self, refresh: Callable[[], None]) -> bool:
        """Call `refresh` if a snapshot is due; return whether it was."""
        began = self._clock()
        if began < self._due:
            return False
        refresh()
        self._due = began + max(PERIOD_SECONDS * 0.9, (self._clock() - began) / BUSY_SHARE_MAX)
        return True
