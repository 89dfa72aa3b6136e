"""A snapshot of what waits, refreshed by the scheduler about once a second: forecasts read it and never the units.

So a poll, a list and an order cost the same however long the queue is. A forecast is as old as the snapshot.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.tables import QueueSnapshot

REFRESH_SQL = text(files("app.dispatch").joinpath("queue_snapshot.sql").read_text())
AHEAD_SQL = text(files("app.dispatch").joinpath("queue_ahead.sql").read_text())

PERIOD_SECONDS = 1.0
# A deep queue takes longer to add up; between two snapshots the scheduler does ten times as long without it.
BUSY_SHARE_MAX = 1 / 11
# Queues that have not changed and are read again in one snapshot, because throughput has.
AGED_MAX = 50
# Below what a snapshot resolves: durations are rounded to milliseconds.
EPSILON = 1e-6
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Work:
    """Work that waits: units, the jobs they belong to, and one worker's seconds at the p50 and the p90 of each unit."""

    units: int = 0
    jobs: int = 0
    p50: Decimal = _ZERO
    p90: Decimal = _ZERO

    def __add__(self, other: "Work") -> "Work":
        return Work(self.units + other.units, self.jobs + other.jobs, self.p50 + other.p50, self.p90 + other.p90)


@dataclass(frozen=True)
class Place:
    """Where a job waits: its pool, priority, account, age, and the virtual time at which it is next in its account."""

    pool: str
    priority: int
    account_id: str
    queued_at: datetime
    turn: Decimal


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


class OwnQueues:
    """The queues of some accounts in some pools, as of the snapshot."""

    def __init__(self, session: Session, pools: Sequence[str], accounts: Sequence[str]) -> None:
        query = select(QueueSnapshot).where(QueueSnapshot.pool.in_(pools), QueueSnapshot.account_id.in_(accounts))
        self._rows: dict[tuple[str, str], list[QueueSnapshot]] = defaultdict(list)
        for row in session.scalars(query.execution_options(populate_existing=True)):
            self._rows[row.pool, row.account_id].append(row)

    def before(self, pool: str, account_id: str, priority: int, queued_at: datetime) -> Work:
        """Return the account's own work that goes before its job of this priority and age."""
        total = Work()
        for row in self._rows.get((pool, account_id), ()):
            if row.priority < priority:
                total += Work(row.units, row.jobs, row.p50, row.p90)
            elif row.priority == priority:
                total += _older(row, queued_at)
        return total


def _older(row: QueueSnapshot, moment: datetime) -> Work:
    """Return the work of a queue that is older than a moment, from the two marks around it."""
    key = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    marks = [(mark[0], Work(mark[1], mark[2], Decimal(str(mark[3])), Decimal(str(mark[4])))) for mark in row.marks]
    marks.append((marks[-1][0] + 1, Work(row.units, row.jobs, row.p50, row.p90)))
    later = next((n for n, (at, _) in enumerate(marks) if at >= key), len(marks) - 1)
    if not later:
        return Work()
    (low_at, low), (high_at, high) = marks[later - 1], marks[later]
    if high.units - low.units <= 1 or high_at <= key:
        return high
    part = Decimal(key - low_at) / (high_at - low_at)
    return Work(
        low.units + round(part * (high.units - low.units)),
        low.jobs + round(part * (high.jobs - low.jobs)),
        low.p50 + part * (high.p50 - low.p50),
        low.p90 + part * (high.p90 - low.p90),
    )


def work_of_others_before(session: Session, places: Mapping[str, Place]) -> dict[str, Work]:
    """Return the work of other accounts that goes before each of some jobs, by the job's id; its units are not counted.

    One statement; its cost grows with the accounts that wait in the pools of the jobs.
    """
    if not places:
        return {}
    inputs: dict[str, Any] = {
        "jobs": list(places),
        "pools": [place.pool for place in places.values()],
        "classes": [place.priority for place in places.values()],
        "accounts": [place.account_id for place in places.values()],
        "turns": [float(place.turn) for place in places.values()],
        "ages": [place.queued_at for place in places.values()],
        "epsilon": EPSILON,
    }
    return {
        row.job_id: Work(0, row.jobs, _seconds(row.p50), _seconds(row.p90))
        for row in session.execute(AHEAD_SQL, inputs)
    }


def _seconds(value: float) -> Decimal:
    return Decimal(str(round(value, 3)))


def films_waiting(session: Session, pool: str) -> list[Decimal]:
    """Return the p50 and p90 seconds of all units that wait in a pool."""
    sums = [func.coalesce(func.sum(column), 0) for column in (QueueSnapshot.p50, QueueSnapshot.p90)]
    return list(session.execute(select(*sums).where(QueueSnapshot.pool == pool)).one())
